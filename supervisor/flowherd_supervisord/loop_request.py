"""A request to an agent inside supervisord's loop, which it never holds up.

supervisord's XML-RPC has deferred answers (NOT_DONE_YET in supervisor/http.py): a method returns a function, which the
loop calls until it has the answer. The connection is one of those that the loop watches (asyncore's map), so the answer
is read as soon as it arrives. No thread is needed.
"""

import errno
import socket
import time
from typing import Any, Callable, List, Mapping, Optional

from supervisor.http import NOT_DONE_YET  # type: ignore[import-untyped]
from supervisor.medusa import asyncore_25 as asyncore  # type: ignore[import-untyped]

from flowherd_supervisord import agent_socket
from flowherd_supervisord.rpc_values import fault, sendable

#: Pause between two calls of a deferred answer, seconds; the loop itself sleeps up to a second without an event.
_DELAY_S = 0.001
#: How long an answer that has arrived keeps the loop awake so that it is fetched, seconds.
_COLLECT_S = 0.05
_READ_BYTES = 64 * 1024


def deferred(
    path: str,
    method: str,
    target: str,
    query: Optional[Mapping[str, Any]] = None,
    timeout_s: float = 10.0,
    shape: Callable[[agent_socket.Answer], Any] = lambda answer: answer,
) -> Callable[[], Any]:
    """Send a request and return the function that supervisord calls until it returns the agent's answer.

    `shape` makes the result of the answer. Raises RPCError if there is no agent, and so does the function later.
    """
    try:
        request = _LoopRequest(path, agent_socket.request_bytes(method, target, query), timeout_s)
    except OSError as error:
        raise fault(agent_socket.no_agent(path, error)) from error
    except agent_socket.AgentError as error:
        raise fault(error) from error

    def result() -> Any:
        if not request.is_done:
            return NOT_DONE_YET
        request.close()
        try:
            return sendable(shape(request.answer()))
        except agent_socket.AgentError as error:
            raise fault(error) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise fault("the agent's answer is not understood: {!r}".format(error)) from error

    result.delay = _DELAY_S  # type: ignore[attr-defined]
    return result


class _LoopRequest(asyncore.dispatcher):  # type: ignore[misc]
    """One request, from the connection to the whole answer. Raises OSError if there is no connection."""

    def __init__(self, path: str, request: bytes, timeout_s: float) -> None:
        asyncore.dispatcher.__init__(self)
        self._path = path
        self._timeout_s = timeout_s
        self._deadline_s = time.monotonic() + timeout_s
        self._to_send = request
        self._received: List[bytes] = []
        self._size = 0
        self._error: Optional[Exception] = None
        #: When the answer was there, or none was to be expected any more (monotonic).
        self._done_s: Optional[float] = None
        self._is_open = False
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            agent_socket.connect(connection, path)
        except OSError as error:
            connection.close()
            if error.errno == errno.EAGAIN:
                raise OSError(errno.EAGAIN, "it has too many connections at the moment") from error
            raise
        self.set_socket(connection)
        self.connected = self._is_open = True

    @property
    def is_done(self) -> bool:
        """Whether there is an answer, or none is to be expected."""
        self._look_at_clock()
        return self._done_s is not None

    def answer(self) -> agent_socket.Answer:
        """Return the answer. Raises AgentError."""
        if self._error is not None:
            raise self._error
        return agent_socket.read_answer(b"".join(self._received))

    def close(self) -> None:
        """Close the connection."""
        if self._is_open:
            self._is_open = False
            asyncore.dispatcher.close(self)

    # The loop calls what follows; `readable` and `writable` in each of its rounds.

    def readable(self) -> bool:
        """Return whether the loop is to wait for this connection.

        The end of a connection is an event that lasts: it makes the loop fetch the answer without a pause.
        """
        self._look_at_clock()
        return self._is_open

    def writable(self) -> bool:
        """Return whether something is left to send."""
        return self._is_open and bool(self._to_send)

    def handle_write_event(self) -> None:
        """Send as much as can be sent."""
        try:
            self._to_send = self._to_send[self.socket.send(self._to_send) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._finish(agent_socket.no_agent(self._path, error))

    def handle_read_event(self) -> None:
        """Receive what has arrived."""
        if self._done_s is not None:
            return
        try:
            part = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._finish(agent_socket.no_agent(self._path, error))
            return
        self._received.append(part)
        self._size += len(part)
        if not part:
            self._finish(None)
        elif self._size > agent_socket.MOST_BYTES:
            self._finish(agent_socket.too_large())

    def handle_error(self) -> None:
        """End the request because of an exception in the methods above."""
        self._finish(agent_socket.AgentError("the request to the agent failed unexpectedly"))
        self.close()

    def _look_at_clock(self) -> None:
        now_s = time.monotonic()
        if self._done_s is None and now_s > self._deadline_s:
            self._finish(agent_socket.late(self._path, self._timeout_s))
        if self._done_s is not None and now_s > self._done_s + _COLLECT_S:
            self.close()

    def _finish(self, error: Optional[Exception]) -> None:
        if self._done_s is None:
            self._error, self._done_s, self._to_send = error, time.monotonic(), b""
