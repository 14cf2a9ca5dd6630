"""The agent's side of fork servers: starts them by exec and asks them for runners. The other side is flowherd_runner.

The agent, which has threads, never forks without exec; the fork server, which has one thread, does.
"""

from __future__ import annotations

import array
import contextlib
import math
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from loguru import logger

from flowherd.errors import DeployError
from flowherd.host.processes.flock import start_program
from flowherd.host.processes.hand_over import HandOver, StaleForkServer, StartedRunner
from flowherd.host.processes.interpreters import program_of
from flowherd.host.processes.preloading import Preloading
from flowherd.host.processes.ready_report import report_ready
from flowherd.host.processes.spare_cgroups import remove_when_empty
from flowherd.host.processes.spare_sort import SpareSort
from flowherd.values import Runtime
from flowherd_runner import BOOT_FILE
from flowherd_runner.contract import faults, files, messages
from flowherd_runner.contract.variables import NO_RUN_ID, RUN_ID_VARIABLE

#: How long to wait until the modules are imported, seconds; heavy ones take long from a cold disk.
_READY_TIMEOUT_S = 120.0
#: How long fork servers may take to end, seconds; then they are killed, which no runner notices.
END_TIMEOUT_S = 2.0
#: Number of fork servers that may end while they import their modules; the next one is started without modules.
_MAX_FAILED_STARTS = 2
#: Longest part of a fork server's output in a message, bytes.
_LAST_OUTPUT_BYTES = 1000


class ForkServer:
    """A running fork server.

    Raises DeployError if it cannot be started. If it dies later, pending requests fail and it is no longer `alive`; its
    runners continue. From the first hand-over on, and from `keep_spares`, it keeps that many spare runners of the
    sort that runs need, each in a cgroup of its own below `cgroups`.
    """

    def __init__(
        self,
        runtime: Runtime,
        env: Mapping[str, str],
        log_file: Path,
        reported: set[str] | None = None,
        spares: int = 0,
        cgroups: Path | None = None,
        secrets_fd: int | None = None,
    ) -> None:
        self.runtime = runtime
        #: A file that it has loaded and that has changed since; None while there is none.
        self.changed_file: str | None = None
        #: When it became ready, or a run asked for it last (monotonic).
        self.used_s = time.monotonic()
        #: Warnings that were given already, by this fork server or others.
        self._reported = set() if reported is None else reported
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sending = threading.Lock()
        self._waiting: dict[int, Future[StartedRunner]] = {}
        self._requests = 0
        self._gone = False
        self._spares_number = spares
        self._sorts = tuple(SpareSort(cgroups, apart=apart) for apart in (False, True))
        self.preloading = Preloading(runtime.interpreter)
        with theirs:
            self._process = _start(runtime, env, log_file, theirs.fileno(), secrets_fd, self._socket)
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, name=f"fork-server-{self.pid}", daemon=True)
        self._reader.start()
        self.log_file = log_file

    @property
    def alive(self) -> bool:
        """Whether it can still take requests."""
        return not self._gone

    @property
    def idle_s(self) -> float:
        """How long nothing has been asked of it, seconds; 0 while a request waits, or may come after its import."""
        if not self.alive:
            return math.inf
        return 0.0 if self._waiting or not self.preloading.is_over else time.monotonic() - self.used_s

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
                + (f": {output}" if output else f"; its output is in {self.log_file}")
            ) from error

    @property
    def was_ready(self) -> bool:
        """Whether it has imported its modules; if so, its end has nothing to do with them."""
        return self.preloading.succeeded

    def _last_output(self) -> str:
        """Return the last line of its output, which usually says why the interpreter or an import failed."""
        try:
            lines = self.log_file.read_bytes()[-_LAST_OUTPUT_BYTES:].decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip() if lines else ""

    @property
    def is_ready(self) -> bool:
        """Whether it is alive and has imported its modules, so that a request need not wait."""
        return self.alive and self.preloading.succeeded

    @property
    def two_steps(self) -> bool:
        """Whether its runners wait for the word to go on; those of 0.1.0 do not. Waits until it is ready."""
        return bool(self.wait_ready().get("two_steps"))

    @property
    def spares(self) -> tuple[int, ...]:
        """Pids of the spare runners that wait for a run."""
        return tuple(pid for sort in self._sorts for pid in sort.pids)

    def sort_of_spares(self, *, apart: bool) -> SpareSort:
        """Return the spare runners for runs with a level of isolation, or for those without."""
        return self._sorts[apart]

    def hand_over(self, directory: Path, lock_fd: int, cgroup: Path | None = None, *, apart: bool = False) -> HandOver:
        """Ask for the runner of a run directory and pass it the locked descriptor, which the caller must still close.

        Waits until the modules are imported, and not for the answer. `cgroup` is that of the run; `apart` says that it
        has a level of isolation.

        Raises DeployError. The runner may then have been started nevertheless; if so, it holds the lock. If the fork
        server is not `alive` afterwards, another one may be asked once it is clear that no runner was started.
        """
        ready = self.wait_ready(directory.name)
        if apart and not ready.get("apart"):
            raise DeployError(f"the fork server (pid {self.pid}) is of an earlier release, which keeps no run apart")
        answer: Future[StartedRunner] = Future()
        with self._sending:
            self._requests += 1
            request = self._requests
            self._waiting[request] = answer
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) if self.two_steps else (None, None)
        handed = HandOver(self.pid, ours, answer, lambda: self._waiting.pop(request, None))
        try:
            faults.point("before-start-request")
            message = {"op": "start", "request": request, "directory": str(directory), "if_fresh": True}
            if cgroup is not None:
                message["cgroup"] = str(cgroup)
            if apart:
                message["apart"] = True
            self._send(message, [lock_fd, *([theirs.fileno()] if theirs is not None else [])])
            faults.point("after-start-request")
        except OSError as error:
            handed.close()
            raise DeployError(f"the fork server (pid {self.pid}) did not answer: {error!r}") from error
        finally:
            if theirs is not None:
                theirs.close()
        self.keep_spares(apart=apart)
        return handed

    def keep_spares(self, *, apart: bool = False) -> None:
        """Have it keep spare runners for runs with or without a level of isolation, once it is ready.

        One of an earlier release keeps none.
        """
        sort, other = self._sorts[apart], self._sorts[not apart]
        sort.used_s = time.monotonic()
        if not self._spares_number:
            return
        changed = [*([] if sort.wanted else [sort]), *([other] if other.is_unused else [])]
        sort.wanted, other.wanted = True, other.wanted and not other.is_unused
        for one in changed:
            if self.is_ready:
                self._ask_for_spares(one)

    def _ask_for_spares(self, sort: SpareSort) -> None:
        ready = self.wait_ready()
        if ready.get("two_steps") and (ready.get("apart") or not sort.apart):
            with contextlib.suppress(OSError):  # its end is noticed elsewhere
                self._send(sort.request(self._spares_number))

    def _send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send a message with descriptors. Raises OSError; a socket that refuses a message stays broken."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg([messages.encode_message(message)], rights)
        except OSError:
            self._gone = True
            raise

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

    def close(self, timeout_s: float = END_TIMEOUT_S) -> None:
        """End it, and wait for its end. Its runners continue."""
        self.begin_closing()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join(END_TIMEOUT_S)  # it waits for the process
        self._socket.close()

    def _read(self) -> None:
        while data := self._receive():
            try:
                self._take(messages.decode_message(data))
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("Ignoring an invalid message from the fork server: {}", error, pid=self.pid)
        left = [cgroup for sort in self._sorts for cgroup in sort.note({})]
        self._gone = True  # before the failed requests below are retried, which look at `alive`
        gone = ConnectionError(f"the fork server (pid {self.pid}) has ended")
        self.preloading.fail(gone)
        for waiting in list(self._waiting.values()):
            if not waiting.done():
                waiting.set_exception(gone)
        self._process.wait()
        remove_when_empty(left)  # its spares end with it

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
        elif operation == "stale":
            self.changed_file = str(message["file"])
        elif operation == "spares":
            for sort in self._sorts:
                sort.note(message)
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
        self.used_s = time.monotonic()
        self.preloading.finish(message)
        for sort in self._sorts:
            if sort.wanted and self.is_ready:  # not if the wait for it was given up meanwhile
                self._ask_for_spares(sort)


def _start(
    runtime: Runtime, env: Mapping[str, str], log_file: Path, fd: int, secrets_fd: int | None, ours: socket.socket
) -> subprocess.Popen[bytes]:
    argv = [program_of(runtime.interpreter), BOOT_FILE, "forkserver", "--fd", str(fd)]
    passed = [fd]
    if secrets_fd is not None:
        argv += ["--secrets-fd", str(secrets_fd)]
        passed.append(secrets_fd)
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
        return start_program(argv, env=environment, output=descriptor, pass_fds=passed, new_session=True)
    except (OSError, ValueError) as error:
        ours.close()
        raise DeployError(f"cannot start the interpreter {runtime.interpreter}: {error}") from error
    finally:
        os.close(descriptor)
