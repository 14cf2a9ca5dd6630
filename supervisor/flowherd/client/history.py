"""The history of one flow run at a server: its states, flowherd's own lines in its log, its waiting tasks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flowherd.backends.graphql.literals import Word
from flowherd.backends.graphql.rows import parsed_time
from flowherd.backends.graphql.transport import ACCOUNTS, GraphQLTransport
from flowherd.backends.json_values import integer, mapping, text, text_or_none
from flowherd.client.queries import select
from flowherd.states import CLAIMABLE
from flowherd.story.account import Account, read_account
from flowherd.story.marks import marks
from flowherd.story.records import NoticeView, StateView, WaitingTaskView

#: Maximum number of notices, and of waiting tasks, that are read.
_MAX_ROWS = 500


class RunHistory:
    """The history of one flow run. Every method raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport, run_id: str) -> None:
        self._transport = transport
        self._where = {"flow_run_id": {"_eq": run_id}}

    def states(self) -> list[StateView]:
        """Return the states, oldest first."""
        fields = "version state timestamp message serialized_state"
        order = {"version": Word("asc")}
        return select(self._transport, "flow_run_state", fields, _state, where=self._where, order_by=order)

    def notices(self) -> list[NoticeView]:
        """Return flowherd's own lines in the log, oldest first."""
        where = {**self._where, "name": {"_eq": "flowherd"}}
        order = {"timestamp": Word("asc")}
        fields = "timestamp message"
        return select(self._transport, "log", fields, _notice, where=where, order_by=order, limit=_MAX_ROWS)

    def first_line_at(self) -> datetime | None:
        """Return the time of the first line that the run itself printed or logged; None if there is none."""
        where = {**self._where, "_or": [{"name": {"_neq": "flowherd"}}, {"name": {"_is_null": True}}]}
        order = {"timestamp": Word("asc")}
        found = select(self._transport, "log", "timestamp message", _notice, where=where, order_by=order, limit=1)
        return found[0].at if found else None

    def changed_at(self) -> datetime | None:
        """Return when the server last changed the run: once it has ended, that is when its end was stored."""
        given = {"where": {"id": self._where["flow_run_id"]}, "limit": 1}
        found = select(self._transport, "flow_run", "updated", lambda row: parsed_time(row["updated"]), **given)
        return found[0] if found else None

    def account(self) -> Account | None:
        """Return what the run's latest end carried; None before it, and at a server that keeps no accounts."""
        if ACCOUNTS not in self._transport.server_extensions:
            return None
        given = {"where": {"id": self._where["flow_run_id"]}, "limit": 1}
        found = select(self._transport, "flow_run", "account", lambda row: read_account(row["account"]), **given)
        return found[0] if found else None

    def waiting_tasks(self) -> list[WaitingTaskView]:
        """Return the task runs that wait for a retry or for a person, the earliest first."""
        where = {**self._where, "state": {"_in": sorted(CLAIMABLE)}}
        order = {"state_start_time": Word("asc")}
        fields = "state state_start_time task { name }"
        return select(self._transport, "task_run", fields, _task, where=where, order_by=order, limit=_MAX_ROWS)


def _state(row: Mapping[str, Any]) -> StateView:
    ours = marks(row)
    return StateView(
        version=integer(row["version"]),
        state=text(row["state"]),
        at=parsed_time(row["timestamp"]),
        message=text_or_none(row["message"]),
        pid=ours.pid,
        reason=ours.reason,
        grade=ours.grade,
        phases=ours.phases,
        by=ours.by,
    )


def _notice(row: Mapping[str, Any]) -> NoticeView:
    return NoticeView(at=parsed_time(row["timestamp"]), message=text_or_none(row["message"]) or "")


def _task(row: Mapping[str, Any]) -> WaitingTaskView:
    name, due = mapping(row["task"])["name"], parsed_time(row["state_start_time"])
    return WaitingTaskView(task=text_or_none(name) or "", state=text(row["state"]), due=due)
