"""The agent's end of a fork server: starts it by exec, asks it for runners. The other end is flowherd_runner.

The agent itself never forks once it has threads; only the fork server, which has one, does.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loguru import logger

from flowherd.errors import DeployError
from flowherd.host.processes import fork_lock
from flowherd.host.processes.interpreters import program_of
from flowherd.values import Runtime
from flowherd_runner import BOOT_FILE
from flowherd_runner.contract import faults, files, messages
from flowherd_runner.contract.variables import IMPORT_ENVIRONMENT_VARIABLE, NO_RUN_ID, RUN_ID_VARIABLE

#: The first import of heavy modules on a cold disk; a start that takes longer is stuck.
_READY_TIMEOUT_S = 120.0
_ANSWER_TIMEOUT_S = 30.0
#: So often a fork server may end while it imports its modules before one without them is started.
_STILLBORN = 2
_LAST_WORDS = 1000


@dataclass(frozen=True)
class StartedRunner:
    """Who the new runner is."""

    pid: int
    start_ticks: int


class ForkServer:
    """A running fork server.

    Raises DeployError when it cannot be started. A fork server that dies later fails the requests under way and
    is not `alive` any more; its runners go on.
    """

    def __init__(self, runtime: Runtime, env: Mapping[str, str], log_file: Path) -> None:
        self.runtime = runtime
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
        self._log_file = log_file

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return not self._gone

    def wait_ready(self) -> Mapping[str, Any]:
        """What it said of itself once its modules were imported. Raises DeployError when it never gets there."""
        try:
            return self._ready.result(_READY_TIMEOUT_S)
        except (FutureTimeout, ConnectionError) as error:
            words = self._last_words()
            raise DeployError(
                f"the fork server for {self.runtime.interpreter} did not start"
                + (f": {words}" if words else f"; its output is in {self._log_file}")
            ) from error

    @property
    def was_ready(self) -> bool:
        """Whether it had imported its modules, so that its end has nothing to do with them."""
        return self._ready.done() and self._ready.exception() is None

    def _last_words(self) -> str:
        """The last line of its output, which tells why an interpreter or an import ended it."""
        try:
            lines = self._log_file.read_bytes()[-_LAST_WORDS:].decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip() if lines else ""

    def start_runner(self, directory: Path, lock_fd: int) -> StartedRunner:
        """Start the runner of a run directory and hand it the locked descriptor, which the caller still closes.

        Raises DeployError; the runner may then live all the same, and holds the lock if it does. When the fork server
        is not `alive` afterwards, another one may be asked as soon as it is clear that no runner was started.
        """
        self.wait_ready()
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
            # A socket that takes nothing is broken for ever; what takes long may still come.
            self._gone = self._gone or not isinstance(error, FutureTimeout)
            raise DeployError(f"the fork server (pid {self.pid}) did not answer: {error!r}") from error
        finally:
            self._waiting.pop(request, None)

    def close(self) -> None:
        """Let it end, by end of file; its runners go on."""
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
                logger.warning("The fork server said something strange: {}", error, pid=self.pid)
        self._gone = True  # before anybody learns of it who then asks whether to try another one
        gone = ConnectionError(f"the fork server (pid {self.pid}) is gone")
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
        self._ready.set_result(message)


def _start(
    runtime: Runtime, env: Mapping[str, str], log_file: Path, fd: int, ours: socket.socket
) -> subprocess.Popen[bytes]:
    argv = [program_of(runtime.interpreter), BOOT_FILE, "forkserver", "--fd", str(fd)]
    for module in runtime.preload:
        argv += ["--preload", module]
    # Its own session: a terminal's Ctrl-C is for the agent. Its own output: nobody who waits for the end of the
    # agent's output must wait for its runs.
    try:
        descriptor = files.open_regular(str(log_file), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    except OSError as error:
        ours.close()
        raise DeployError(f"cannot open {log_file} for the fork server's output: {error}") from error
    try:
        with fork_lock.FORK_LOCK:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env={**env, RUN_ID_VARIABLE: NO_RUN_ID},
                pass_fds=[fd],
                start_new_session=True,
            )
    except (OSError, ValueError) as error:
        ours.close()
        raise DeployError(f"cannot start the interpreter {runtime.interpreter}: {error}") from error
    finally:
        os.close(descriptor)


class ForkServers:
    """One fork server a runtime, started when it is first needed and again after it has died.

    Modules whose import ends the process are left to the runs: they import them themselves, slower, and fail alone.

    `env` is the environment that the runs' own are made of; `of_all_runs` are variables that each of them will have, in
    which the modules are imported.
    """

    def __init__(self, directory: Path, env: Mapping[str, str], of_all_runs: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        self._env = {**env, IMPORT_ENVIRONMENT_VARIABLE: json.dumps(dict(of_all_runs))} if of_all_runs else env
        self._lock = threading.Lock()
        self._servers: dict[Runtime, ForkServer] = {}
        #: How often one ended before it was ready.
        self._stillborn: Counter[Runtime] = Counter()

    def get(self, runtime: Runtime) -> ForkServer:
        """The fork server of `runtime`, perhaps still importing. Raises DeployError when it cannot be started."""
        with self._lock:
            server = self._servers.get(runtime)
            if server is not None and not server.alive:
                self._bury(server)
            if self._stillborn[runtime] >= _STILLBORN and runtime.preload:
                runtime = Runtime(runtime.interpreter)
                server = self._servers.get(runtime)
            if server is None or not server.alive:
                server = ForkServer(runtime, self._env, self._log_file(runtime))
                self._servers[runtime] = server
                logger.debug("Started the fork server (pid {}) for {}", server.pid, runtime)
            return server

    def _bury(self, server: ForkServer) -> None:
        logger.warning("The fork server (pid {}) is gone; starting another", server.pid)
        server.close()
        runtime = server.runtime
        self._stillborn[runtime] = 0 if server.was_ready else self._stillborn[runtime] + 1
        if self._stillborn[runtime] == _STILLBORN and runtime.preload:
            modules = ", ".join(runtime.preload)
            logger.error("{} ends while it imports {}; each run imports for itself now", runtime.interpreter, modules)

    def close(self) -> None:
        """End them all; the runners go on."""
        with self._lock:
            for server in self._servers.values():
                server.close()
            self._servers.clear()

    def _log_file(self, runtime: Runtime) -> Path:
        known = list(self._servers)
        number = known.index(runtime) if runtime in known else len(known)
        return self._directory / f"fork-server-{number}.log"
