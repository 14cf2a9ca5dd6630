"""The description of a mutation, from which the schema is generated and by which it is carried out.

An operation has one `input` object and one payload object, and runs in a write transaction of its own. Agents and
schedules that it concerns are collected in `Call.effects` and woken only after the transaction is on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import GraphQLInputType, GraphQLOutputType

from flowherd_server.call import Call

Input = Mapping[str, Any]


def _unchanged(given: Input) -> Input:
    return given


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One mutation."""

    name: str
    arguments: Mapping[str, GraphQLInputType]
    #: Fields of the payload.
    answer: Mapping[str, GraphQLOutputType]
    #: Carries it out. If it raises Refused, nothing is stored.
    handle: Callable[[Call, Any], Mapping[str, Any]]
    #: Checks and converts the input before the write lock is taken, for operations with large input.
    prepare: Callable[[Input], Any] = _unchanged
    #: Whether it must be on the disk before it is answered; not needed for what clients repeat anyway.
    durable: bool = True
    #: Whether it takes texts that cannot be stored, and stores what is closest: lines of logs must not be lost.
    any_text: bool = False
    #: Whether an agent asks for work by it: it changes nothing, and counts as the agent's last request.
    asks_for_work: bool = False
