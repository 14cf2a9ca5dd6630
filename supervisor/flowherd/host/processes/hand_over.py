"""The hand-over of a run to its runner: the agent's side of flowherd_runner.contract.hand_over."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any

from flowherd.errors import DeployError
from flowherd_runner.contract import hand_over

#: How long to wait for the answer to a request, seconds.
_ANSWER_TIMEOUT_S = 30.0
#: How long a withdrawn runner may take to end, seconds; it has run no user code, whenever it ends.
_WITHDRAWAL_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class StartedRunner:
    """Identity of a new runner."""

    pid: int
    start_ticks: int


class StaleForkServer(DeployError):
    """The fork server has loaded a file that is another one now; it has started no runner, a fresh one will."""


class HandOver:
    """A run that was handed to a fork server, from the request to the start of the user's code.

    `channel` is this end of the pair whose other end went to the runner; None if the fork server is of a release whose
    runners do not wait. `answer` is done when the fork server has named the runner, or refused. Used by one thread
    after another.
    """

    def __init__(
        self,
        server_pid: int,
        channel: socket.socket | None,
        answer: Future[StartedRunner],
        forget: Callable[[], object],
    ) -> None:
        self._server_pid = server_pid
        self._channel = channel
        self._answer = answer
        self._forget = forget
        self._since_s = time.monotonic()
        #: Pid of the flow process; None until the runner has named it.
        self.flow_pid: int | None = None
        #: Pid of the first process of the run's pid namespace; None without one, or until the runner has named it.
        self.init_pid: int | None = None
        #: Whether the runner has ended, or has said that the start is recorded.
        self.is_over = channel is None

    @property
    def age_s(self) -> float:
        """Time since the request, seconds."""
        return time.monotonic() - self._since_s

    def runner(self) -> StartedRunner:
        """Wait for the runner's name.

        Raises DeployError: StaleForkServer if the fork server has started nothing because a file has changed.
        """
        try:
            return self._answer.result(_ANSWER_TIMEOUT_S)
        except (OSError, FutureTimeout) as error:
            raise DeployError(f"the fork server (pid {self._server_pid}) did not answer: {error!r}") from error
        finally:
            self._forget()

    def go(self) -> bool:
        """Let the runner start the user's code. Returns False if it has ended, and so has started nothing."""
        if self._channel is None:
            return True
        self._take()  # a runner that has ended is at its end of file
        if self.is_over:
            return False
        try:
            self._channel.send(hand_over.GO, socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def wait_for_flow(self, timeout_s: float) -> int | None:
        """Wait until the runner has named its flow process, and return its pid; None if it does not in time."""
        if self._channel is not None and self.flow_pid is None and not self.is_over and _readable(self, timeout_s):
            self._take()
        return self.flow_pid

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is news for `look`, or later for `hears_end`.

        Only while it `is_open`.
        """
        assert self._channel is not None
        return self._channel.fileno()

    @property
    def is_open(self) -> bool:
        """Whether the runner can say anything."""
        return self._channel is not None

    def look(self) -> bool:
        """Take what the runner has said, and return whether the file `started` is worth a look."""
        if not self.is_over:
            self._take()
        return self.is_over

    def withdraw(self) -> None:
        """Have the runner end without having started anything, and wait a moment for its end."""
        if self._channel is None:
            return
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
        # The runner keeps its end until it has ended; what it says before that does not matter any more.
        while not self.is_over and _readable(self, _WITHDRAWAL_TIMEOUT_S):
            self._take()
        self.close()

    def hears_end(self) -> bool | None:
        """Return whether the runner says that the run has ended, False if it says nothing more; None if it may yet.

        For after the start: what else it has said is dropped.
        """
        while self._channel is not None:
            try:
                data = self._channel.recv(hand_over.MAX_HINT_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError:
                return False
            if not data:
                return False
            if _hint(data).get("ended") is True:
                return True
        return False

    def close(self) -> None:
        """Close this end. A runner that was not told to go on ends, having started nothing."""
        self._forget()
        self.is_over = True
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.shutdown(socket.SHUT_RDWR)  # also if a program that is just being started has a copy
            self._channel.close()
            self._channel = None

    def _take(self) -> None:
        """Read what is there; the end of the conversation is the runner's, or its last hint."""
        assert self._channel is not None
        while not self.is_over:
            try:
                data = self._channel.recv(hand_over.MAX_HINT_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            hint = _hint(data) if data else {}
            self.flow_pid, self.init_pid = hint.get("flow_pid", self.flow_pid), hint.get("init_pid", self.init_pid)
            self.is_over = not data or "started" in hint


def _hint(data: bytes) -> dict[str, Any]:
    try:
        return hand_over.decode_hint(data)
    except ValueError:  # a later release may say more
        return {}


def _readable(channel: HandOver, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    return bool(poll.poll(int(1000 * timeout_s)))
