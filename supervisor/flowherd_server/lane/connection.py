"""One client of the lane. `send` and `push` may be called from any thread, all else only from the lane's own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from flowherd.lane.frames import Frame, FrameReader, encode
from flowherd_server.call import Caller

#: A client for which more than this waits to be sent, bytes, does not read, and is dropped.
MOST_WAITING_BYTES = 16 * 1024 * 1024


class LaneConnection:
    """An accepted connection. `on_waiting` is called, from any thread, when something waits to be sent."""

    def __init__(self, accepted: socket.socket, on_waiting: Callable[[LaneConnection], None]) -> None:
        accepted.setblocking(False)
        self._socket = accepted
        self._on_waiting = on_waiting
        self._reader = FrameReader()
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        #: Whether it said hello.
        self.is_greeted = False
        #: Who it is, by its hello.
        self.caller = Caller()
        #: Why it has to be closed; empty as long as it has not.
        self.problem = ""
        #: Called by the lane's thread when it is closed.
        self.on_close: list[Callable[[], None]] = []

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def receive(self, buffer: bytearray) -> list[Frame]:
        """Take what has come, through `buffer`. Raises OSError when the client is gone, and BadFrame."""
        try:
            size = self._socket.recv_into(buffer)
        except BlockingIOError:
            return []
        if not size:
            raise ConnectionResetError("closed by the client")
        with memoryview(buffer) as view:
            self._reader.feed(view[:size])
        return list(self._reader.frames())

    def push(self, kind: str, content: Mapping[str, Any] | None = None, body: bytes = b"") -> None:
        """Send a push."""
        self.send({"push": kind, **(content or {})}, body)

    def answer(self, request_id: Any, content: Mapping[str, Any], body: bytes = b"") -> None:
        """Send the answer to a request."""
        self.send({"id": request_id, "ok": content}, body)

    def send(self, head: Mapping[str, Any], body: bytes = b"") -> None:
        """Send a frame, as far as the client reads at once; the rest is sent by the lane's thread."""
        data = encode(head, body)
        with self._lock:
            if self.problem:
                return
            if not self._waiting:
                data = self._sent(data)
            if not data:
                return
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            if self._waiting_bytes > MOST_WAITING_BYTES:
                self.problem = "it does not read what it is sent"
        self._on_waiting(self)

    def send_waiting(self) -> bool:
        """Send more of what waits. Returns whether nothing is left."""
        with self._lock:
            while self._waiting and not self.problem:
                data = self._waiting.popleft()
                rest = self._sent(data)
                self._waiting_bytes -= len(data) - len(rest)
                if rest:
                    self._waiting.appendleft(rest)
                    return False
            return True

    @property
    def has_waiting(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._waiting)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self.problem = self.problem or "closed"
            self._waiting.clear()
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _sent(self, data: bytes) -> bytes:
        """Send what can be sent now. Returns the rest."""
        try:
            return data[self._socket.send(data) :]
        except BlockingIOError:
            return data
        except OSError as error:
            self.problem = f"nothing can be sent to it: {error}"
            return b""
