"""What a mutation is, to the schema that offers it and to the module that carries it out.

An operation has one `input` object and one answer object. It runs in one write transaction of its own; what others
must hear of it is collected in `Call.effects` and told only after the transaction is on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import GraphQLInputType, GraphQLOutputType
from sqlalchemy import Connection

Input = Mapping[str, Any]


@dataclass
class Effects:
    """What concerns somebody who waits."""

    #: Flow runs that may be taken: from when (microseconds) and by agents with which labels.
    due: list[tuple[int, Sequence[str]]] = field(default_factory=list)
    #: Agents of whose runs one is to be ended.
    agents: set[str] = field(default_factory=set)
    #: A schedule was switched on or changed.
    schedules: bool = False


@dataclass(frozen=True)
class Caller:
    """Who asks, as far as the headers tell."""

    #: X-PREFECT-AGENT-ID, where it is a UUID.
    agent_id: str | None = None
    #: X-PREFECT-CORE-VERSION.
    core_version: str | None = None
    #: X-PREFECT-TENANT-ID, where it is a UUID.
    tenant_id: str | None = None


@dataclass(frozen=True)
class Call:
    """One run of an operation."""

    connection: Connection
    caller: Caller
    #: The time of the call, in microseconds: one for all that it writes.
    now: int
    #: How many runs a schedule creates ahead.
    schedule_ahead: int
    effects: Effects = field(default_factory=Effects)


def _unchanged(given: Input) -> Input:
    return given


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One mutation. `handle` raises Refused when it will not do it; nothing of it is stored then."""

    name: str
    arguments: Mapping[str, GraphQLInputType]
    answer: Mapping[str, GraphQLOutputType]
    handle: Callable[[Call, Any], Mapping[str, Any]]
    #: Checks and converts the input before the writer's lock is taken, for operations with much of it.
    prepare: Callable[[Input], Any] = _unchanged
    #: On the disk before it is answered; only what is told again and again anyway is not.
    durable: bool = True
