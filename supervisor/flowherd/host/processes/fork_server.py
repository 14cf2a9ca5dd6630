"""The agent's side of fork servers: starts them by exec and asks them for runners. The other side is flowherd_runner.

The agent, which has threads, never forks without exec; the fork server, which has one thread, does.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loguru import logger

from flowherd.errors import AgentStopping, DeployError
from flowherd.host.processes.flock import start_program
from flowherd.host.processes.interpreters import program_of
from flowherd.host.processes.preloading import Preloading
from flowherd.values import Runtime
from flowherd_runner import BOOT_FILE
from flowherd_runner.contract import faults, files, messages
from flowherd_runner.contract.variables import IMPORT_ENVIRONMENT_VARIABLE, NO_RUN_ID, RUN_ID_VARIABLE

#: How long to wait until the modules are imported, seconds; heavy ones take long from a cold disk.
_READY_TIMEOUT_S = 120.0
#: How long to wait for the answer to a request, seconds.
_ANSWER_TIMEOUT_S = 30.0
#: How long fork servers may take to end, seconds; then they are killed, which no runner notices.
_END_TIMEOUT_S = 2.0
#: Number of fork servers that may end while they import their modules; the next one is started without modules.
_MAX_FAILED_STARTS = 2
#: Longest part of a fork server's output in a message, bytes.
_LAST_OUTPUT_BYTES = 1000


@dataclass(frozen=True)
class StartedRunner:
    """Identity of a new runner."""

    pid: int
    start_ticks: int


class ForkServer:
    """A running fork server.

    Raises DeployError if it cannot be started. If it dies later, pending requests fail and it is no longer `alive`; its
    runners continue.
    """

    def __init__(self, runtime: Runtime, env: Mapping[str, str], log_file: Path) -> None:
        self.runtime = runtime
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sending = threading.Lock()
        self._waiting: dict[int, Future[StartedRunner]] = {}
        self._requests = 0
        self._gone = False
        self.preloading = Preloading(runtime.interpreter)
        with theirs:
            self._process = _start(runtime, env, log_file, theirs.fileno(), self._socket)
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, name=f"fork-server-{self.pid}", daemon=True)
        self._reader.start()
        self._log_file = log_file

    @property
    def alive(self) -> bool:
        """Whether it can still take requests."""
        return not self._gone

    def wait_ready(self, flow_run_id: str = "") -> Mapping[str, Any]:
        """Wait until its modules are imported, and return its ready message; `flow_run_id` is who waits.

        Raises DeployError if that fails, AgentStopping if the agent stops meanwhile.
        """
        try:
            return self.preloading.wait(_READY_TIMEOUT_S, flow_run_id)
        except TimeoutError as error:
            raise DeployError(f"the fork server did not start: {error}") from error
        except ConnectionError as error:
            output = self._last_output()
            raise DeployError(
                f"the fork server for {self.runtime.interpreter} did not start"
                + (f": {output}" if output else f"; its output is in {self._log_file}")
            ) from error

    @property
    def was_ready(self) -> bool:
        """Whether it has imported its modules; if so, its end has nothing to do with them."""
        return self.preloading.succeeded

    def _last_output(self) -> str:
        """Return the last line of its output, which usually says why the interpreter or an import failed."""
        try:
            lines = self._log_file.read_bytes()[-_LAST_OUTPUT_BYTES:].decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip() if lines else ""

    def start_runner(self, directory: Path, lock_fd: int) -> StartedRunner:
        """Start the runner of a run directory and pass it the locked descriptor, which the caller must still close.

        Raises DeployError. The runner may then have been started nevertheless; if so, it holds the lock. If the fork
        server is not `alive` afterwards, another one may be asked once it is clear that no runner was started.
        """
        self.wait_ready(directory.name)
        answer: Future[StartedRunner] = Future()
        with self._sending:
            self._requests += 1
            request = self._requests
            self._waiting[request] = answer
        message = messages.encode_message({"op": "start", "request": request, "directory": str(directory)})
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

    def give_up_importing(self) -> None:
        """If it is still importing, end all waits for it, and kill it with what its imports have started."""
        if self.preloading.is_over:
            return
        self.preloading.give_up()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # it leads its session, and no runner was forked yet

    def begin_closing(self) -> None:
        """Ask it to end by end of file."""
        self.give_up_importing()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self, timeout_s: float = _END_TIMEOUT_S) -> None:
        """End it, and wait for its end. Its runners continue."""
        self.begin_closing()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join(_END_TIMEOUT_S)  # it waits for the process
        self._socket.close()

    def _read(self) -> None:
        while data := self._receive():
            try:
                self._take(messages.decode_message(data))
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("Ignoring an invalid message from the fork server: {}", error, pid=self.pid)
        self._gone = True  # before the failed requests below are retried, which look at `alive`
        gone = ConnectionError(f"the fork server (pid {self.pid}) has ended")
        self.preloading.fail(gone)
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
        if operation == "importing":
            self.preloading.note_import(str(message["module"]))
        elif operation == "ready":
            self._report_ready(message)
        elif operation in ("started", "refused"):
            waiting = self._waiting.get(message["request"])
            if waiting is None:
                return
            if operation == "started":
                waiting.set_result(StartedRunner(int(message["pid"]), int(message["start_ticks"])))
            else:
                waiting.set_exception(DeployError(str(message["error"])))

    def _report_ready(self, message: Mapping[str, Any]) -> None:
        for module, error in message.get("failed", {}).items():
            logger.warning("Cannot preload {}: {}", module, error, interpreter=self.runtime.interpreter)
        if message.get("threads", 1) > 1:
            logger.warning(
                "The preloaded modules {} start threads, so every run starts its own interpreter (slower)",
                list(self.runtime.preload),
            )
        self.preloading.finish(message)


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
        environment = {**env, RUN_ID_VARIABLE: NO_RUN_ID}
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

    `env` is the environment that the environments of the runs are derived from. `of_all_runs` are variables that every
    run will have; they are set while the modules are imported.
    """

    def __init__(self, directory: Path, env: Mapping[str, str], of_all_runs: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        self._env = {**env, IMPORT_ENVIRONMENT_VARIABLE: json.dumps(dict(of_all_runs))} if of_all_runs else env
        self._lock = threading.Lock()
        self._closing = False
        self._servers: dict[Runtime, ForkServer] = {}
        #: Number of fork servers of a runtime that ended before they were ready.
        self._failed_starts: Counter[Runtime] = Counter()

    def get(self, runtime: Runtime) -> ForkServer:
        """Return the fork server of `runtime`, perhaps still importing.

        Raises DeployError if it cannot be started, AgentStopping after `begin_closing`.
        """
        with self._lock:
            if self._closing:
                raise AgentStopping("the agent is stopping")
            server = self._servers.get(runtime)
            if server is not None and not server.alive:
                self._clean_up(server)
            if self._failed_starts[runtime] >= _MAX_FAILED_STARTS and runtime.preload:
                runtime = Runtime(runtime.interpreter)
                server = self._servers.get(runtime)
            if server is None or not server.alive:
                server = ForkServer(runtime, self._env, self._log_file(runtime))
                self._servers[runtime] = server
                logger.debug("Started the fork server (pid {}) for {}", server.pid, runtime)
            return server

    def _clean_up(self, server: ForkServer) -> None:
        logger.warning("The fork server (pid {}) has ended; starting another", server.pid)
        server.close()
        runtime = server.runtime
        self._failed_starts[runtime] = 0 if server.was_ready else self._failed_starts[runtime] + 1
        if self._failed_starts[runtime] == _MAX_FAILED_STARTS and runtime.preload:
            modules = ", ".join(runtime.preload)
            logger.error("{} ends while importing {}; each run now imports them itself", runtime.interpreter, modules)

    def preloading(self) -> list[dict[str, Any]]:
        """Return what is being imported now, one object for each fork server that is not ready."""
        found = [server.preloading.figures() for server in list(self._servers.values()) if server.alive]
        return [figures for figures in found if figures is not None]

    def begin_closing(self) -> None:
        """Start no more fork servers, and end all waits for those that are still importing."""
        self._closing = True
        for server in list(self._servers.values()):
            server.give_up_importing()

    def close(self) -> None:
        """End all fork servers, which together have a moment for it. The runners continue."""
        self.begin_closing()
        with self._lock:
            deadline_s = time.monotonic() + _END_TIMEOUT_S
            for server in self._servers.values():
                server.begin_closing()
            for server in self._servers.values():
                server.close(max(0.0, deadline_s - time.monotonic()))
            self._servers.clear()

    def _log_file(self, runtime: Runtime) -> Path:
        known = list(self._servers)
        number = known.index(runtime) if runtime in known else len(known)
        return self._directory / f"fork-server-{number}.log"
