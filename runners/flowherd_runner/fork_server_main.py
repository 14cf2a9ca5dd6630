"""The fork server: imports modules once, then forks a runner for each request (contract/messages.py).

One thread, one selector, no signal handlers. It decides nothing about a run and knows only its directory. Its end, for
whichever reason, does not affect the runners that it has forked.
"""

import array
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import warnings
from collections import deque
from contextlib import contextmanager
from typing import Any, Deque, Dict, Iterator, List, NoReturn, Optional, Tuple

from flowherd_runner import BOOT_FILE, osapi, random_generators
from flowherd_runner.agent_secrets import environment_with_secrets
from flowherd_runner.contract import faults
from flowherd_runner.contract.identity import process_status
from flowherd_runner.contract.messages import MAX_MESSAGE_BYTES, decode_message, encode_message
from flowherd_runner.contract.reasons import RUNNER_BROKEN
from flowherd_runner.contract.spec import current_module
from flowherd_runner.contract.variables import IMPORT_ENVIRONMENT_VARIABLE
from flowherd_runner.interpreter_end import remember_preloads
from flowherd_runner.kinds import load_plain_kinds
from flowherd_runner.loaded_files import LoadedFiles
from flowherd_runner.own_errors import flush_output, print_traceback
from flowherd_runner.preload_check import PreloadCheck
from flowherd_runner.runner import STOP_SIGNALS, run

#: More descriptors than any message should carry, so that surplus ones are noticed and closed.
_MAX_FDS = 8
#: Maximum length of one module's error, so that the ready message stays within MAX_MESSAGE_BYTES.
_MAX_ERROR_CHARS = 500
#: Pause between two looks for runners that have ended, if no signal may report them, seconds.
_REAP_INTERVAL_S = 1.0


def serve(fd: int, preload: List[str]) -> NoReturn:
    """Import the modules `preload`, then answer requests on the socket `fd` until its other end is closed."""
    os.set_inheritable(fd, False)
    # The agent stops a fork server by closing the socket or by SIGTERM; neither deserves a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Blocked before any module is imported: a thread that one of them starts must not receive the signal instead.
    signals = osapi.SignalQueue({signal.SIGCHLD})
    check = PreloadCheck(fd, preload)
    load_plain_kinds()
    files = LoadedFiles()
    with _import_environment():
        preloaded, failed = _preload(preload, fd, check, files)
    for name in check.files:
        files.note(name)
    for name in failed:
        files.note_missing(name)
    remember_preloads()
    gc.collect()
    random_generators.remember()
    gc.freeze()
    osapi.return_free_memory()  # what imports and the looks at them have used, which all runs would share
    # A preloaded module may use in the run what it keeps open.
    ours = (0, 1, 2, fd, signals.fileno(), files.fileno())
    kept_fds = {other: identity for other, identity in osapi.open_fds().items() if other not in ours}
    Conversation(socket.socket(fileno=fd), signals, files, kept_fds).serve(
        preloaded=preloaded, failed=failed, refused=check.refused
    )
    os._exit(0)


@contextmanager
def _import_environment() -> Iterator[None]:
    """Set the variables that are known to be the same in all runs, and restore the environment afterwards."""
    variables = json.loads(os.environ.pop(IMPORT_ENVIRONMENT_VARIABLE, "{}"))
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _preload(
    names: List[str], channel_fd: int, check: PreloadCheck, files: LoadedFiles
) -> Tuple[List[str], Dict[str, str]]:
    """Import `names`; return those that could be imported, and the errors of the others.

    An agent of 0.1.0 whose files were replaced while it runs still asks for modules by their former names.
    """
    preloaded, failed = [], check.failed
    for name in names:
        if name in check.left_out:
            continue
        _announce(name, channel_fd)
        check.begin()
        try:
            importlib.import_module(current_module(name))
        except (Exception, SystemExit) as error:  # foreign code; runs may work without it
            print_traceback()
            failed[name] = "{}: {}".format(type(error).__name__, error)[:_MAX_ERROR_CHARS]
        else:
            preloaded.append(name)
        check.end(name, current_module(name), failed.get(name))
        files.note_loaded()
    flush_output()
    return preloaded, failed


def _announce(module: str, channel_fd: int) -> None:
    """Tell the agent what is imported now, because an import may take for ever."""
    try:
        os.write(channel_fd, encode_message({"op": "importing", "module": module}))
    except OSError:  # the agent is gone, which the conversation notices
        pass


class Conversation:
    """The conversation with one agent, from the ready message to the end of the socket."""

    def __init__(
        self, channel: socket.socket, signals: osapi.SignalQueue, files: LoadedFiles, kept_fds: osapi.Descriptors
    ) -> None:
        self._channel = channel
        self._channel.setblocking(False)
        self._kept_fds = kept_fds
        self._signals = signals
        self._files = files
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # with an inherited SIG_IGN the kernel would reap the runners
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._channel, selectors.EVENT_READ)
        self._selector.register(self._signals, selectors.EVENT_READ)
        if files.fileno() >= 0:
            self._selector.register(files, selectors.EVENT_READ)
        self._unsent: Deque[bytes] = deque()
        self._runners: List[int] = []
        self._open = True
        #: Whether there are threads that no preloaded module has started, but the interpreter's own start.
        self._threaded = osapi.thread_count() > 1
        #: Whether the agent has been told that a loaded file has changed.
        self._stale = False

    def serve(self, **facts: Any) -> None:
        """Send the ready message with `facts` about the modules, and answer requests until the agent is gone."""
        self._queue(
            op="ready",
            pid=os.getpid(),
            python="{}.{}.{}".format(*sys.version_info[:3]),
            threads=osapi.thread_count(),
            **facts,
        )
        while self._open:
            self._send()
            for key, events in self._selector.select(self._timeout_s()):
                if key.fileobj is self._signals:
                    self._signals.read()
                    self._reap()
                elif key.fileobj is self._channel and events & selectors.EVENT_READ:
                    self._receive()
            self._look_at_files()
            if self._threaded:
                self._reap()

    def _timeout_s(self) -> Optional[float]:
        """How long to wait for an event; a thread that is older than the signal queue may receive SIGCHLD instead."""
        return _REAP_INTERVAL_S if self._threaded and self._runners else self._files.look_interval_s

    def _look_at_files(self) -> Optional[str]:
        """Return a loaded file that has changed, and say so to the agent once; None when none has."""
        changed = self._files.changed()
        if changed is not None and not self._stale:
            self._stale = True
            if self._files.fileno() >= 0:
                self._selector.unregister(self._files)
            self._queue(op="stale", file=changed)
        return changed

    # Messages.

    def _queue(self, **message: Any) -> None:
        self._unsent.append(encode_message(message))

    def _send(self) -> None:
        """Send what the socket takes now; runners must be reaped even when the agent does not read."""
        try:
            while self._unsent:
                self._channel.send(self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:
            self._selector.modify(self._channel, selectors.EVENT_READ | selectors.EVENT_WRITE)
            return
        except OSError:  # the agent is gone
            self._open = False
            return
        self._selector.modify(self._channel, selectors.EVENT_READ)

    def _receive(self) -> None:
        try:
            data, ancillary, flags, _ = self._channel.recvmsg(
                MAX_MESSAGE_BYTES, socket.CMSG_SPACE(_MAX_FDS * array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            self._open = False
            return
        fds = _received_fds(ancillary)
        try:
            if data:
                self._handle(data, fds, cut=bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)))
            else:
                self._open = bool(fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _handle(self, data: bytes, fds: List[int], cut: bool) -> None:
        request = None
        try:
            if cut:
                raise ValueError(
                    "a message of more than {} bytes or {} descriptors".format(MAX_MESSAGE_BYTES, _MAX_FDS)
                )
            message = decode_message(data)
            request = message.get("request")
            directory = _requested_directory(message)
            changed = self._look_at_files() if message.get("if_fresh") else None
            if changed is not None:
                self._queue(op="refused", request=request, error="{} has changed".format(changed), stale=True)
                return
            if len(fds) != 1:
                raise ValueError("a start request carries the lock's descriptor, this one carried {}".format(len(fds)))
            faults.point("fork-server-before-fork")
            pid = self._start(directory, fds[0])
            faults.point("fork-server-after-fork")
        except (ValueError, OSError) as error:
            self._queue(op="refused", request=request, error=str(error))
            return
        self._runners.append(pid)
        status = process_status(pid)
        self._queue(op="started", request=request, pid=pid, start_ticks=status[1] if status else 0)

    # Runners.

    def _start(self, directory: str, lock_fd: int) -> int:
        """Fork the runner of `directory` and return its pid. Raises OSError."""
        # Blocked until the runner reads them from its queue, so that an early stop request is not lost.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            # A fork copies only the calling thread; locks that other threads hold would stay locked for ever.
            threaded = osapi.thread_count() > 1
            pid = _fork_despite_threads() if threaded else os.fork()
            if pid == 0:
                self._become_runner(directory, lock_fd, threaded)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid

    def _become_runner(self, directory: str, lock_fd: int, by_exec: bool) -> NoReturn:
        code = RUNNER_BROKEN
        try:
            if by_exec:
                # Every other descriptor is closed on exec.
                os.set_inheritable(lock_fd, True)
                arguments = ["runner", "--directory", directory, "--lock-fd", str(lock_fd)]
                os.execve(sys.executable, [sys.executable, BOOT_FILE, *arguments], environment_with_secrets())
            self._channel.close()
            self._selector.close()
            self._signals.close()
            self._files.close()
            code = run(directory, lock_fd, self._kept_fds)
        except BaseException:  # nothing may return into the loop of the fork server
            print_traceback()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        """Report each runner that has ended. Only runners are waited for: a preloaded module may have children too."""
        for pid in list(self._runners):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._runners.remove(pid)
                self._queue(op="gone", pid=pid, status=status)


def _fork_despite_threads() -> int:
    """Fork without the warning of 3.12; the child becomes another program, which has no use for these filters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _received_fds(ancillary: List[Tuple[int, int, bytes]]) -> List[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def _requested_directory(message: Dict[str, Any]) -> str:
    if message["op"] != "start":
        raise ValueError("unknown op {!r}".format(message["op"]))
    directory: Optional[object] = message.get("directory")
    if not isinstance(directory, str) or not os.path.isabs(directory) or not os.path.isdir(directory):
        raise ValueError("not the absolute path of a directory: {!r}".format(directory))
    return directory
