"""A request of the lane, and what an operation is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from flowherd_server.call import Call
from flowherd_server.lane.connection import LaneConnection
from flowherd_server.service import ServerCore


class Access(Enum):
    """What an operation needs of the database."""

    #: Nothing. Its requests have no `call`.
    NONE = "none"
    #: One state of it, in a transaction shared with other reading requests.
    READ = "read"
    #: A change that survives the server's death, but not a power cut.
    SOFT = "soft"
    #: A change that is on the disk when it is answered.
    DURABLE = "durable"


@dataclass(frozen=True, kw_only=True)
class LaneRequest:
    """One request."""

    connection: LaneConnection
    #: The client's number of it, which its answer has too.
    id: Any
    #: The head of its frame: what is asked.
    given: Mapping[str, Any]
    body: bytes
    core: ServerCore
    #: Its part of the transaction.
    call: Call | None = None

    @property
    def transaction(self) -> Call:
        """Its part of the transaction. Only for operations that have one."""
        assert self.call is not None, "its operation needs nothing of the database"
        return self.call


@dataclass(frozen=True, kw_only=True)
class LaneOperation:
    """One operation.

    `handle` returns the answer's content, or None if it is answered later (`LaneConnection.answer`). It raises Refused,
    or BadRequest. What it has changed is taken back then, without the other requests in the transaction.
    """

    name: str
    handle: Callable[[LaneRequest], Mapping[str, Any] | None]
    access: Access
    #: Whether an agent asks for work by it.
    asks_for_work: bool = False
