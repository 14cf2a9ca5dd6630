"""A connection to a server's lane that waits for its answers in the thread that asks. For one thread at a time."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowherd.errors import FlowherdError
from flowherd.lane.frames import BadFrame, Frame, FrameReader, encode
from flowherd.lane.messages import HELLO, UNAVAILABLE, UNKNOWN_OP, VERSION
from flowherd.socket_path import short_path

#: Bytes that are taken at a time; to get memory for more costs more than to ask twice.
_AT_ONCE_BYTES = 64 * 1024


class LaneClosed(FlowherdError):
    """There is no lane, or no more: what was sent may have been carried out. Ask in another way."""


class LaneRefused(FlowherdError):
    """The server did not carry out a request. `kind` is one of the errors of messages.py."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    @property
    def is_temporary(self) -> bool:
        """Whether the request may succeed later."""
        return self.kind == UNAVAILABLE


class LaneClient:
    """An open lane. Every method that sends or receives raises LaneClosed once it is broken, and closes it then."""

    def __init__(self, path: Path, timeout_s: float, *, instance: str = "", **introduction: Any) -> None:
        """Connect and say hello; `introduction` is added to it. `timeout_s` is for each answer, seconds.

        `instance` is the life of the server that is meant; another server's lane is closed again. Raises LaneClosed,
        or LaneRefused if the server does not speak this version.
        """
        self._timeout_s = timeout_s
        self._reader = FrameReader()
        self._arrived: deque[Frame] = deque()
        #: Pushes that came while an answer was waited for, oldest first.
        self.pushes: deque[Frame] = deque()
        self._last_id = -1
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout_s)
            with short_path(path.parent, path.name) as short:
                self._socket.connect(short)
        except OSError as error:
            self._socket.close()
            raise LaneClosed(f"the lane {path} cannot be reached: {error}") from error
        try:
            #: What the server says of itself: `version`, `instance`, `restored`, `ops`.
            self.server: Mapping[str, Any] = self.request(HELLO, lane=VERSION, **introduction).head
            if instance and self.server.get("instance") != instance:
                raise LaneClosed(f"the lane {path} is not that of the server that was asked")
        except BaseException:
            self.close()
            raise
        ops = self.server.get("ops")
        #: The operations that the server has.
        self.operations = frozenset(ops) if isinstance(ops, list) else frozenset[str]()

    def request(self, op: str, body: bytes = b"", **given: Any) -> Frame:
        """Send a request and wait for its answer: what it says under `ok`, and its body.

        Raises LaneRefused if it is not carried out.
        """
        return self.answer_to(self.send(op, body, **given))

    def send(self, op: str, body: bytes = b"", **given: Any) -> int:
        """Send a request without waiting for its answer. Returns its id, for `answer_to`."""
        if op != HELLO and op not in self.operations:
            raise LaneRefused(UNKNOWN_OP, f"the server's lane has no operation {op}")
        self._last_id += 1
        data = encode({"id": self._last_id, "op": op, **given}, body)
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(data)
        except OSError as error:
            raise self._broken(error) from error
        return self._last_id

    def answer_to(self, request_id: int) -> Frame:
        """Wait for the answer to a request, as `request` does. Answers to other requests are dropped."""
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            frame = self._next(deadline_s)
            if frame is None:
                raise self._broken(TimeoutError(f"no answer within {self._timeout_s:.0f} s"))
            if "push" in frame.head:
                self.pushes.append(frame)
            elif frame.head.get("id") == request_id:
                return _checked(frame)

    def next_frame(self, timeout_s: float) -> Frame | None:
        """Return the next frame, a push or an answer as it came; None if none has come within `timeout_s` seconds."""
        return self.pushes.popleft() if self.pushes else self._next(time.monotonic() + timeout_s)

    def wait_for_push(self, timeout_s: float) -> Frame | None:
        """Return the next push; None if none has come within `timeout_s` seconds."""
        deadline_s = time.monotonic() + timeout_s
        while not self.pushes:
            frame = self._next(deadline_s)
            if frame is None:
                return None
            if "push" in frame.head:
                return frame
        return self.pushes.popleft()

    def close(self) -> None:
        """Close the lane. May be called from any thread; one that waits is told at once."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor, for a poll; -1 once it is closed."""
        return self._socket.fileno()

    def _next(self, deadline_s: float) -> Frame | None:
        """Return the next frame; None after the deadline (monotonic)."""
        while not self._arrived:
            try:
                self._socket.settimeout(max(0.001, deadline_s - time.monotonic()))
                data = self._socket.recv(_AT_ONCE_BYTES)
                if not data:
                    raise ConnectionResetError("the server has closed it")
                self._reader.feed(data)
                self._arrived.extend(self._reader.frames())
            except TimeoutError:
                return None
            except (OSError, BadFrame) as error:
                raise self._broken(error) from error
        return self._arrived.popleft()

    def _broken(self, error: Exception) -> LaneClosed:
        self.close()
        return LaneClosed(f"the lane to the server is closed: {error}")


def _checked(frame: Frame) -> Frame:
    """Return an answer's content. Raises LaneRefused."""
    kind = frame.head.get("error")
    if kind is not None:
        raise LaneRefused(str(kind), str(frame.head.get("message") or kind))
    ok = frame.head.get("ok")
    return Frame(ok if isinstance(ok, dict) else {}, frame.body)
