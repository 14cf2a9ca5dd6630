"""From what has happened to notifications: ends of runs, and times of schedules that passed without a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select

from flowherd.notify.changes import Condition
from flowherd.notify.ends import End, notice_of_end
from flowherd.notify.kinds import Kind
from flowherd.notify.message import LAST_LINES, log_line, notification_of, sentence
from flowherd.notify.rules import Rule, Subject, channels_for
from flowherd.notify.wording import missed_title
from flowherd.states import RunState
from flowherd.story.order import BAD
from flowherd_server.notify.outbox import put
from flowherd_server.runs.accounts import accounts_of
from flowherd_server.runs.rescue import FOUND_LOST
from flowherd_server.store.microseconds import SECOND_US
from flowherd_server.store.notification_tables import NOTIFICATION_CONDITION, NOTIFICATION_EVENT
from flowherd_server.store.plain import plain
from flowherd_server.store.tables import AGENT, FLOW, FLOW_RUN, PROJECT

#: Most events that are looked at in one transaction.
MOST_AT_ONCE = 100
_LAST_LINES = "SELECT message FROM log_line WHERE run = ? ORDER BY id DESC LIMIT ?"


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What turns events into notifications, in one transaction."""

    connection: Connection
    rules: Sequence[Rule]
    #: Names of the channels.
    channels: Sequence[str]
    #: Address of the page, for links.
    page: str

    def send(
        self, kind: Kind, about: Subject, title: str, *, over: Kind | None = None, again: bool = False, **fields: Any
    ) -> None:
        """Put a notification into the outbox, for the channels whose rules want it."""
        chosen = channels_for(self.rules, self.channels, kind, about, over=over, again=again)
        if not chosen:
            return
        put(self.connection, notification_of(kind, about, title, over=over, **fields), chosen)

    def run_link(self, run_id: str) -> str:
        """Return the address of a run's page."""
        return f"{self.page}/runs/{run_id}"


def take_events(desk: Desk) -> int:
    """Turn the oldest events into notifications, and delete them. Returns how many there were."""
    events = NOTIFICATION_EVENT.c
    query = select(NOTIFICATION_EVENT).order_by(events.seq).limit(MOST_AT_ONCE)
    rows = desk.connection.execute(query).mappings().all()
    missed: dict[str, list[RowMapping]] = {}
    for row in rows:
        if row["kind"] == "missed" or row["state"] == RunState.SKIPPED:
            missed.setdefault(row["flow_id"], []).append(row)
        else:
            _take_end(desk, row)
    for of_flow in missed.values():
        _take_missed(desk, of_flow)
    if rows:
        desk.connection.execute(delete(NOTIFICATION_EVENT).where(events.seq <= rows[-1]["seq"]))
    return len(rows)


def conditions(connection: Connection) -> dict[str, Condition]:
    """Return what is not well, by key."""
    rows = connection.execute(select(NOTIFICATION_CONDITION)).mappings()
    return {
        row["key"]: Condition(**{**row, "kind": Kind(row["kind"]), "since": row["since"] / SECOND_US})
        for row in rows
        if row["kind"] in set(Kind)
    }


def store_condition(connection: Connection, condition: Condition) -> None:
    """Store a condition, in place of the one with its key."""
    delete_condition(connection, condition.key)
    row = {**vars(condition), "kind": condition.kind.value, "since": round(condition.since * SECOND_US)}
    connection.execute(insert(NOTIFICATION_CONDITION), row)


def delete_condition(connection: Connection, key: str) -> None:
    """Delete a condition that is over."""
    connection.execute(delete(NOTIFICATION_CONDITION).where(NOTIFICATION_CONDITION.c.key == key))


def _flow(connection: Connection, flow_id: str) -> RowMapping | None:
    query = select(FLOW.c.name, FLOW.c.flow_group_id, PROJECT.c.name.label("project"))
    query = query.join(PROJECT, PROJECT.c.id == FLOW.c.project_id).where(FLOW.c.id == flow_id)
    return connection.execute(query).mappings().first()


def _about(flow: RowMapping, run: Mapping[str, Any]) -> Subject:
    return Subject(flow=flow["name"], project=flow["project"], labels=tuple(run.get("labels", ())))


def _take_missed(desk: Desk, events: Sequence[RowMapping]) -> None:
    """Notify of all missed times of one flow, as one notification."""
    flow = _flow(desk.connection, events[0]["flow_id"])
    if flow is None:
        return
    run = _run(desk.connection, events[0]["flow_run_id"])
    count = sum(event["count"] or 1 for event in events)
    texts = dict.fromkeys(event["message"] or "" for event in events)
    fields = _run_fields(desk, run, events[0]["state"]) if len(events) == 1 else {}
    desk.send(
        Kind.MISSED,
        _about(flow, run),
        missed_title(flow["name"], count),
        sentence=sentence(" ".join(texts)),
        count=count,
        since=min(event["at"] for event in events) / SECOND_US,
        **fields,
    )


def _take_end(desk: Desk, event: RowMapping) -> None:
    flow_row = _flow(desk.connection, event["flow_id"])
    if flow_row is None:
        return
    run = _run(desk.connection, event["flow_run_id"])
    key, about = f"flow:{flow_row['flow_group_id']}", _about(flow_row, run)
    marks = _marks(event["serialized_state"])
    end = End(
        flow=flow_row["name"],
        state=event["state"],
        is_bad=event["state"] in BAD,
        message=event["message"] or "",
        reason=marks.get("reason"),
        grade=marks.get("grade"),
        is_abandoned=(event["message"] or "").startswith(FOUND_LOST),
        at=event["at"] / SECOND_US,
    )
    notice = notice_of_end(end, key, conditions(desk.connection).get(key))
    if notice is None:
        return
    fields = {**_run_fields(desk, run, event["state"]), **notice.fields}
    if notice.condition is None:
        delete_condition(desk.connection, key)
    else:
        store_condition(desk.connection, notice.condition)
        fields |= {"evidence": _evidence(desk.connection, run), "last_lines": _last_lines(desk.connection, run)}
    desk.send(notice.kind, about, notice.title, over=notice.over, again=notice.again, **fields)


def _run(connection: Connection, run_id: str | None) -> dict[str, Any]:
    """Return id, number, name, labels and agent of a run; nothing if it was deleted since."""
    query = select(FLOW_RUN.c.id, FLOW_RUN.c.seq, FLOW_RUN.c.name, FLOW_RUN.c.labels, AGENT.c.name.label("agent"))
    query = query.outerjoin(AGENT, AGENT.c.id == FLOW_RUN.c.agent_id).where(FLOW_RUN.c.id == run_id)
    found = connection.execute(query).mappings().first()
    return {} if found is None else dict(found)


def _run_fields(desk: Desk, run: Mapping[str, Any], state: str | None) -> dict[str, Any]:
    if not run:
        return {"state": state}
    return {
        "run_id": run["id"],
        "run_name": run["name"],
        "agent": run["agent"],
        "state": state,
        "link": desk.run_link(run["id"]),
    }


def _marks(state: Any) -> dict[str, Any]:
    """Return reason and grade of an end, as far as the agent has sent them."""
    context = state.get("context") if isinstance(state, Mapping) else None
    marks = context.get("flowherd") if isinstance(context, Mapping) else None
    marks = marks if isinstance(marks, Mapping) else {}
    return {name: marks[name] for name in ("reason", "grade") if isinstance(marks.get(name), str)}


def _evidence(connection: Connection, run: Mapping[str, Any]) -> str | None:
    accounts = accounts_of(connection, run["seq"]) if run else []
    return sentence(accounts[-1].evidence) if accounts and accounts[-1].evidence else None


def _last_lines(connection: Connection, run: Mapping[str, Any]) -> list[str]:
    rows = plain(connection).execute(_LAST_LINES, (run["seq"], LAST_LINES)).fetchall() if run else []
    lines = [line for (message,) in reversed(rows) for line in str(message).split("\n")]
    return [log_line(line) for line in lines[-LAST_LINES:]]
