"""The fork server: imports modules once, then forks a runner for each request (contract/messages.py).

One thread, one selector, no signal handlers. It decides nothing about a run and knows only its directory. Its end, for
whichever reason, does not affect the runners that it has forked.
"""

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections import deque
from contextlib import contextmanager
from typing import Any, Callable, Deque, Dict, Iterator, List, NoReturn, Optional, Tuple

from flowherd_runner import agent_secrets, descriptors, osapi, random_generators
from flowherd_runner.birth import STOP_SIGNALS, be_born
from flowherd_runner.contract import faults
from flowherd_runner.contract.identity import process_status
from flowherd_runner.contract.messages import MAX_MESSAGE_BYTES, decode_message, encode_message
from flowherd_runner.contract.reasons import RUNNER_BROKEN
from flowherd_runner.contract.spec import current_module
from flowherd_runner.contract.variables import IMPORT_ENVIRONMENT_VARIABLE
from flowherd_runner.exec_runner import become_runner, fork_despite_threads
from flowherd_runner.heap_holes import fill_holes
from flowherd_runner.interpreter_end import remember_preloads
from flowherd_runner.kinds import load_plain_kinds
from flowherd_runner.loaded_files import LoadedFiles
from flowherd_runner.own_errors import flush_output, open_errors, print_traceback
from flowherd_runner.preload_check import PreloadCheck
from flowherd_runner.runner import run
from flowherd_runner.spares import Spares
from flowherd_runner.start_requests import SparesRequest, StartRequest, spares_request, start_request

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
    fill_holes()
    # A preloaded module may use in the run what it keeps open.
    ours = (0, 1, 2, fd, signals.fileno(), files.fileno(), *agent_secrets.inherited())
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
        self._spares = Spares(self._fork, kept_fds)
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
            two_steps=True,
            apart=True,
            **facts,
        )
        while self._open:
            self._send()
            happened = self._selector.select(self._timeout_s())
            for key, events in happened:
                if key.fileobj is self._signals:
                    self._signals.read()
                    self._reap()
                elif key.fileobj is self._channel and events & selectors.EVENT_READ:
                    self._receive()
            self._look_at_files()
            if self._threaded:
                self._reap()
            if not happened and self._spares.due_in_s() == 0:
                self._refill()

    def _timeout_s(self) -> Optional[float]:
        """How long to wait for an event; a thread that is older than the signal queue may receive SIGCHLD instead."""
        usual_s = _REAP_INTERVAL_S if self._threaded and self._runners else self._files.look_interval_s
        due_s = self._spares.due_in_s()
        return min((one for one in (usual_s, due_s) if one is not None), default=None)

    def _look_at_files(self) -> Optional[str]:
        """Return a loaded file that has changed, and say so to the agent once; None when none has."""
        changed = self._files.changed()
        if changed is not None and not self._stale:
            self._stale = True
            self._spares.close()
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
            received = descriptors.receive(self._channel, MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._open = False
            return
        try:
            if received.data:
                self._handle(received)
            else:
                self._open = bool(received.fds)
        finally:
            for fd in received.fds:
                os.close(fd)

    def _handle(self, received: descriptors.Received) -> None:
        request = None
        self._spares.put_off()
        try:
            if received.cut:
                text = "a message of more than {} bytes or {} descriptors"
                raise ValueError(text.format(MAX_MESSAGE_BYTES, descriptors.MAX_FDS))
            message = decode_message(received.data)
            request = message.get("request")
            if message["op"] == "spares":
                self._want_spares(spares_request(message))
                return
            asked = start_request(message, received.fds)
            changed = self._look_at_files() if message.get("if_fresh") else None
            if changed is not None:
                self._queue(op="refused", request=request, error="{} has changed".format(changed), stale=True)
                return
            faults.point("fork-server-before-fork")
            pid = self._start(asked)
            faults.point("fork-server-after-fork")
        except (ValueError, OSError) as error:
            self._queue(op="refused", request=request, error=str(error))
            return
        self._runners.append(pid)
        status = process_status(pid)
        self._queue(op="started", request=request, pid=pid, start_ticks=status[1] if status else 0)

    # Spares.

    def _want_spares(self, asked: SparesRequest) -> None:
        # A thread would be missing in a fork, so runners are started by exec then.
        number = 0 if self._stale or osapi.thread_count() > 1 else asked.number
        self._spares.want(asked._replace(number=number))

    def _refill(self) -> None:
        try:
            self._spares.refill()
        except OSError:  # no memory, no more processes: runs are started all the same, or say so
            self._spares.put_off()
            return
        self._tell_of_spares()

    def _tell_of_spares(self) -> None:
        self._queue(op="spares", **self._spares.report())

    # Runners.

    def _start(self, asked: StartRequest) -> int:
        """Give the run to a spare, or fork a runner for it, and return its pid. Raises OSError."""
        pid = self._spares.hand_over(asked)
        if pid is not None:
            self._tell_of_spares()
            return pid
        # A fork copies only the calling thread; locks that other threads hold would stay locked for ever.
        if osapi.thread_count() > 1:
            return self._fork(lambda: become_runner(asked), fork_despite_threads)

        def be_runner() -> int:
            open_errors(asked.directory)  # first, because the agent looks there for the reason if nothing can be forked
            newborn = be_born(self._kept_fds, cgroup=asked.cgroup, apart=asked.apart)
            return run(asked.directory, asked.lock_fd, asked.go_fd, newborn)

        return self._fork(be_runner)

    def _fork(self, body: Callable[[], int], fork: Callable[[], int] = os.fork) -> int:
        """Fork a child that ends with the exit code that `body` returns, and return its pid. Raises OSError."""
        # Blocked until the runner reads them from its queue, so that an early stop request is not lost.
        before = osapi.set_signal_mask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            pid = fork()
            if pid == 0:
                self._be_child(body)
        finally:
            osapi.set_signal_mask(signal.SIG_SETMASK, before)
        return pid

    def _be_child(self, body: Callable[[], int]) -> NoReturn:
        code = RUNNER_BROKEN
        try:
            for one in (self._channel, self._selector, self._signals, self._files, self._spares):
                one.close()
            code = body()
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
        if self._spares.reap():
            self._tell_of_spares()
