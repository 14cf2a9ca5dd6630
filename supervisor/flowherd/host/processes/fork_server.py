"""The agent's side of fork servers: starts them by exec and asks them for runners. The other side is flowherd_runner.

The agent, which has threads, never forks without exec; the fork server, which has one thread, does.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import json
import os
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loguru import logger

from flowherd.errors import DeployError
from flowherd.host.processes.flock import start_program
from flowherd.host.processes.interpreters import program_of
from flowherd.host.processes.ready_report import report_ready
from flowherd.host.processes.set_aside import MAX_OWN_ENVIRONMENTS, OWN_ENVIRONMENT_IDLE_S, SetAside
from flowherd.values import Runtime
from flowherd_runner import BOOT_FILE
from flowherd_runner.contract import faults, files, messages
from flowherd_runner.contract.variables import IMPORT_ENVIRONMENT_VARIABLE, NO_RUN_ID, RUN_ID_VARIABLE

#: How long to wait until the modules are imported, seconds; heavy ones take long from a cold disk.
_READY_TIMEOUT_S = 120.0
#: How long to wait for the answer to a request, seconds.
_ANSWER_TIMEOUT_S = 30.0
#: Number of fork servers that may end while they import their modules; the next one is started without modules.
_MAX_FAILED_STARTS = 2
#: Longest part of a fork server's output in a message, bytes.
_LAST_OUTPUT_BYTES = 1000


@dataclass(frozen=True)
class StartedRunner:
    """Identity of a new runner."""

    pid: int
    start_ticks: int


class StaleForkServer(DeployError):
    """The fork server has loaded a file that is another one now; it has started no runner, a fresh one will."""


class ForkServer:
    """A running fork server.

    Raises DeployError if it cannot be started. If it dies later, pending requests fail and it is no longer `alive`; its
    runners continue.
    """

    def __init__(
        self, runtime: Runtime, env: Mapping[str, str], log_file: Path, reported: set[str] | None = None
    ) -> None:
        self.runtime = runtime
        #: A file that it has loaded and that has changed since; None while there is none.
        self.changed_file: str | None = None
        #: When a run asked for it last (monotonic).
        self.used_s = time.monotonic()
        #: Warnings that were given already, by this fork server or others.
        self._reported = set() if reported is None else reported
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sending = threading.Lock()
        self._waiting: dict[int, Future[StartedRunner]] = {}
        self._requests = 0
        self._gone = False
        self._ready: Future[Mapping[str, Any]] = Future()
        with theirs:
            self._process = _start(runtime, env, log_file, theirs.fileno(), self._socket)
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, name=f"fork-server-{self.pid}", daemon=True)
        self._reader.start()
        self.log_file = log_file

    @property
    def alive(self) -> bool:
        """Whether it can still take requests."""
        return not self._gone

    @property
    def is_idle(self) -> bool:
        """Whether no request waits for its answer."""
        return not self._waiting

    def wait_ready(self) -> Mapping[str, Any]:
        """Wait until its modules are imported, and return its ready message. Raises DeployError if that fails."""
        try:
            return self._ready.result(_READY_TIMEOUT_S)
        except (FutureTimeout, ConnectionError) as error:
            output = self._last_output()
            raise DeployError(
                f"the fork server for {self.runtime.interpreter} did not start"
                + (f": {output}" if output else f"; its output is in {self.log_file}")
            ) from error

    @property
    def was_ready(self) -> bool:
        """Whether it has imported its modules; if so, its end has nothing to do with them."""
        return self._ready.done() and self._ready.exception() is None

    def _last_output(self) -> str:
        """Return the last line of its output, which usually says why the interpreter or an import failed."""
        try:
            lines = self.log_file.read_bytes()[-_LAST_OUTPUT_BYTES:].decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip() if lines else ""

    def start_runner(self, directory: Path, lock_fd: int) -> StartedRunner:
        """Start the runner of a run directory and pass it the locked descriptor, which the caller must still close.

        Raises DeployError. The runner may then have been started nevertheless; if so, it holds the lock. If the fork
        server is not `alive` afterwards, another one may be asked once it is clear that no runner was started; after
        StaleForkServer at once.
        """
        self.wait_ready()
        answer: Future[StartedRunner] = Future()
        with self._sending:
            self._requests += 1
            request = self._requests
            self._waiting[request] = answer
        message = messages.encode_message(
            {"op": "start", "request": request, "directory": str(directory), "if_fresh": True}
        )
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [lock_fd]))]
        try:
            faults.point("before-start-request")
            self._socket.sendmsg([message], rights)
            faults.point("after-start-request")
            started = answer.result(_ANSWER_TIMEOUT_S)
            faults.point("after-started")
            return started
        except (OSError, FutureTimeout) as error:
            # A socket that refuses a message stays broken; an answer that is late may still come.
            self._gone = self._gone or not isinstance(error, FutureTimeout)
            raise DeployError(f"the fork server (pid {self.pid}) did not answer: {error!r}") from error
        finally:
            self._waiting.pop(request, None)

    def close(self) -> None:
        """End it by end of file. Its runners continue."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(5.0)
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()

    def _read(self) -> None:
        while data := self._receive():
            try:
                self._take(messages.decode_message(data))
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("Ignoring an invalid message from the fork server: {}", error, pid=self.pid)
        self._gone = True  # before the failed requests below are retried, which look at `alive`
        gone = ConnectionError(f"the fork server (pid {self.pid}) has ended")
        if not self._ready.done():
            self._ready.set_exception(gone)
        for waiting in list(self._waiting.values()):
            if not waiting.done():
                waiting.set_exception(gone)
        self._process.wait()

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(messages.MAX_MESSAGE_BYTES)
        except OSError:
            return b""

    def _take(self, message: Mapping[str, Any]) -> None:
        operation = message["op"]
        if operation == "ready":
            self._report_ready(message)
        elif operation == "stale":
            self.changed_file = str(message["file"])
        elif operation in ("started", "refused"):
            waiting = self._waiting.get(message["request"])
            if waiting is None:
                return
            if operation == "started":
                waiting.set_result(StartedRunner(int(message["pid"]), int(message["start_ticks"])))
            else:
                kind = StaleForkServer if message.get("stale") else DeployError
                waiting.set_exception(kind(str(message["error"])))

    def _report_ready(self, message: Mapping[str, Any]) -> None:
        report_ready(self.runtime, message, self._reported)
        self._ready.set_result(message)


def _start(
    runtime: Runtime, env: Mapping[str, str], log_file: Path, fd: int, ours: socket.socket
) -> subprocess.Popen[bytes]:
    argv = [program_of(runtime.interpreter), BOOT_FILE, "forkserver", "--fd", str(fd)]
    for module in runtime.preload:
        argv += ["--preload", module]
    # Its own session, because a terminal's Ctrl-C is meant for the agent. Its own output, because a program that reads
    # the agent's output must not have to wait for the runs to end.
    try:
        descriptor = files.open_regular(str(log_file), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    except OSError as error:
        ours.close()
        raise DeployError(f"cannot open {log_file} for the fork server's output: {error}") from error
    try:
        environment = {**env, **dict(runtime.environment), RUN_ID_VARIABLE: NO_RUN_ID}
        return start_program(argv, env=environment, output=descriptor, pass_fds=[fd], new_session=True)
    except (OSError, ValueError) as error:
        ours.close()
        raise DeployError(f"cannot start the interpreter {runtime.interpreter}: {error}") from error
    finally:
        os.close(descriptor)


class ForkServers:
    """One fork server per runtime, started when it is first needed and again after it has died.

    If importing the modules ends the process, they are not preloaded: each run imports them itself, which is slower,
    and fails alone.

    One that has loaded a file which has changed is set aside for a fresh one. Those of a particular environment are set
    aside when they are not used, or when there are too many.

    `env` is the environment that the environments of the runs are derived from. `of_all_runs` are variables that every
    run will have; they are set while the modules are imported.
    """

    def __init__(self, directory: Path, env: Mapping[str, str], of_all_runs: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        #: The environment of a fork server of no particular environment.
        self.base_env = env
        self._env = {**env, IMPORT_ENVIRONMENT_VARIABLE: json.dumps(dict(of_all_runs))} if of_all_runs else env
        self._lock = threading.Lock()
        self._servers: dict[Runtime, ForkServer] = {}
        #: Number of fork servers of a runtime that ended before they were ready.
        self._failed_starts: Counter[Runtime] = Counter()
        self._set_aside = SetAside()
        self._reported: set[str] = set()

    def get(self, runtime: Runtime) -> ForkServer:
        """Return the fork server of `runtime`, perhaps still importing. Raises DeployError if it cannot be started."""
        with self._lock:
            server = self._servers.get(runtime)
            if server is not None and not server.alive:
                self._clean_up(server)
            if self._failed_starts[runtime] >= _MAX_FAILED_STARTS and runtime.preload:
                runtime = replace(runtime, preload=())
                server = self._servers.get(runtime)
            changed = server.changed_file if server is not None else None
            if server is None or not server.alive or changed is not None:
                server = self._start(runtime)
                if changed is not None:
                    logger.info(
                        "Started a fresh fork server (pid {}) for {}: {} has changed",
                        server.pid, runtime.interpreter, changed,
                    )  # fmt: skip
            server.used_s = time.monotonic()
            return server

    def _start(self, runtime: Runtime) -> ForkServer:
        """Start the fork server of `runtime`, and set aside the one that there is and those that are too many."""
        server = ForkServer(runtime, self._env, self._log_file(), self._reported)
        replaced = self._servers.get(runtime)
        if replaced is not None:
            self._set_aside.add(replaced)
        self._servers[runtime] = server
        logger.debug("Started the fork server (pid {}) for {}", server.pid, runtime)
        own = sorted((one for one in self._servers.values() if one.runtime.environment), key=lambda one: one.used_s)
        for one in own[: max(0, len(own) - MAX_OWN_ENVIRONMENTS)]:
            self._set_aside.add(self._servers.pop(one.runtime))
        return server

    def end_idle(self) -> None:
        """End those that were set aside and are idle; set aside those of a particular environment that are not used."""
        with self._lock:
            unused_s = time.monotonic() - OWN_ENVIRONMENT_IDLE_S
            for runtime, server in list(self._servers.items()):
                if runtime.environment and server.used_s < unused_s and server.is_idle:
                    self._set_aside.add(self._servers.pop(runtime))
            self._set_aside.end_idle()

    def _clean_up(self, server: ForkServer) -> None:
        logger.warning("The fork server (pid {}) has ended; starting another", server.pid)
        server.close()
        runtime = server.runtime
        self._failed_starts[runtime] = 0 if server.was_ready else self._failed_starts[runtime] + 1
        if self._failed_starts[runtime] == _MAX_FAILED_STARTS and runtime.preload:
            modules = ", ".join(runtime.preload)
            logger.error("{} ends while importing {}; each run now imports them itself", runtime.interpreter, modules)

    def close(self) -> None:
        """End all fork servers. The runners continue."""
        with self._lock:
            for server in [*self._servers.values(), *self._set_aside.servers]:
                server.close()
            self._servers.clear()
            self._set_aside.servers.clear()

    def _log_file(self) -> Path:
        """Return the first file of output that no living fork server has."""
        used = {server.log_file for server in [*self._servers.values(), *self._set_aside.servers] if server.alive}
        names = (self._directory / f"fork-server-{number}.log" for number in itertools.count())
        return next(path for path in names if path not in used)
