"""The requests that have come and were not carried out yet, and which of them are the next transaction."""

from __future__ import annotations

from collections import Counter, deque

from flowherd_server.lane.connection import LaneConnection
from flowherd_server.lane.requests import LaneOperation, LaneRequest

Request = tuple[LaneOperation, LaneRequest]

#: Weight from which a request is bulk, bytes.
BULK_BYTES = 64 * 1024
#: Weight after which a transaction takes no further bulk, bytes: others wait for it with their changes.
MOST_BULK_BYTES = 1024 * 1024
#: Weight of a log line in the head of a request, bytes.
_LINE_BYTES = 200


class Backlog:
    """Requests in the order in which they came. A claim does not wait for the logs of other connections before it."""

    def __init__(self) -> None:
        self._requests: deque[Request] = deque()
        self._of_connection = Counter[LaneConnection]()

    def __bool__(self) -> bool:
        return bool(self._requests)

    def add(self, request: Request) -> None:
        """Add a request."""
        self._requests.append(request)
        self._of_connection[request[1].connection] += 1

    def holds(self, connection: LaneConnection) -> bool:
        """Return whether a request of this connection waits; nothing more is read from it meanwhile."""
        return connection in self._of_connection

    def take(self) -> list[Request]:
        """Take the next transaction: all requests that are no bulk and have none before them, else some bulk."""
        taken, behind = list[Request](), set[LaneConnection]()
        for request in self._requests:
            connection = request[1].connection
            if connection in behind or weight(request[1]) > BULK_BYTES:
                behind.add(connection)
            else:
                taken.append(request)
        if not taken:
            taken = self._bulk()
        self._remove(taken)
        return taken

    def _bulk(self) -> list[Request]:
        taken, size = [], 0
        for request in self._requests:
            if size >= MOST_BULK_BYTES:
                break
            taken.append(request)
            size += weight(request[1])
        return taken

    def _remove(self, taken: list[Request]) -> None:
        gone = set(map(id, taken))
        self._requests = deque(each for each in self._requests if id(each) not in gone)
        for _, request in taken:
            self._of_connection[request.connection] -= 1
            if not self._of_connection[request.connection]:
                del self._of_connection[request.connection]


def weight(request: LaneRequest) -> int:
    """Return about how much work a request is, as a number of bytes."""
    logs = request.given.get("logs")
    return len(request.body) + (_LINE_BYTES * len(logs) if isinstance(logs, list) else 0)
