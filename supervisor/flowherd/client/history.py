"""What a server has kept of one flow run: every state that it was in, and what flowherd itself said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowherd.backends.graphql.literals import Word, arguments
from flowherd.backends.graphql.rows import parsed_time
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.states import CLAIMABLE

#: Of flowherd's own lines in a run's log, the first so many.
_NOTICES = 500


@dataclass(frozen=True, kw_only=True)
class StateView:
    """One state that a flow run was in."""

    version: int
    state: str
    at: datetime | None
    message: str | None
    #: Of the flow process, where a flowherd agent told it; likewise the next two.
    pid: int | None
    reason: str | None
    grade: str | None


@dataclass(frozen=True, kw_only=True)
class NoticeView:
    """One line of flowherd's own in a run's log."""

    at: datetime | None
    message: str


@dataclass(frozen=True, kw_only=True)
class WaitingTaskView:
    """A task run that waits, of a flow run that its own engine has begun."""

    task: str
    state: str
    #: None while it waits for a person.
    due: datetime | None


class RunHistory:
    """The history of one flow run. Every method raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport, run_id: str) -> None:
        self._transport = transport
        self._run_id = run_id

    def states(self) -> list[StateView]:
        """The states, oldest first."""
        given = arguments(where={"flow_run_id": {"_eq": self._run_id}}, order_by={"version": Word("asc")})
        fields = "version state timestamp message serialized_state"
        rows = self._transport.execute(f"query {{ flow_run_state{given} {{ {fields} }} }}")["flow_run_state"]
        return [_state(row) for row in rows]

    def notices(self) -> list[NoticeView]:
        """flowherd's own lines, oldest first."""
        where = {"flow_run_id": {"_eq": self._run_id}, "name": {"_eq": "flowherd"}}
        given = arguments(where=where, order_by={"timestamp": Word("asc")}, limit=_NOTICES)
        rows = self._transport.execute(f"query {{ log{given} {{ timestamp message }} }}")["log"]
        return [NoticeView(at=parsed_time(row["timestamp"]), message=row["message"] or "") for row in rows]

    def waiting_tasks(self) -> list[WaitingTaskView]:
        """Those of its task runs that wait for a retry or a person, the earliest first."""
        where = {"flow_run_id": {"_eq": self._run_id}, "state": {"_in": sorted(CLAIMABLE)}}
        given = arguments(where=where, order_by={"state_start_time": Word("asc")}, limit=_NOTICES)
        fields = "state state_start_time task { name }"
        rows = self._transport.execute(f"query {{ task_run{given} {{ {fields} }} }}")["task_run"]
        return [
            WaitingTaskView(
                task=row["task"]["name"] or "", state=row["state"], due=parsed_time(row["state_start_time"])
            )
            for row in rows
        ]


def _state(row: Mapping[str, Any]) -> StateView:
    ours = ((row["serialized_state"] or {}).get("context") or {}).get("flowherd") or {}
    return StateView(
        version=row["version"],
        state=row["state"],
        at=parsed_time(row["timestamp"]),
        message=row["message"],
        pid=ours.get("pid"),
        reason=ours.get("reason"),
        grade=ours.get("grade"),
    )
