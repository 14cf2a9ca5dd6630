"""Looks at runs: those that are late, that are stuck, and that are near their memory limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import RowMapping, Select, select, text

from flowherd.notify.kinds import Kind
from flowherd.notify.message import sentence
from flowherd.notify.rules import Subject
from flowherd.notify.thresholds import is_near_limit
from flowherd.notify.wording import memory_title
from flowherd.shown_times import spoken_span
from flowherd.states import ACTIVE, FINISHED, RunState
from flowherd.story.live import RunFigures
from flowherd.story.order import LATE_AFTER
from flowherd.story.waiting import run_waits
from flowherd_server.notify.found import Around, Found
from flowherd_server.runs.story_records import run_record
from flowherd_server.store.indexes import WAITS
from flowherd_server.store.microseconds import SECOND_US
from flowherd_server.store.tables import AGENT, FLOW, FLOW_RUN, PROJECT

#: Most runs that one look reads.
_MOST_ROWS = 2_000
_NOT_STUCK = "is no longer stuck"


def look_for_late_runs(around: Around, found: Found) -> None:
    """Look for runs that are due and were not taken: one trouble a flow."""
    before = around.now_us - round(LATE_AFTER.total_seconds() * SECOND_US)
    query = _runs().where(
        text(f"flow_run.{WAITS}"), FLOW_RUN.c.state != RunState.PAUSED.value, FLOW_RUN.c.state_start_time < before
    )
    by_flow: dict[str, list[RowMapping]] = {}
    for row in _rows(around, query.order_by(FLOW_RUN.c.state_start_time)):
        by_flow.setdefault(f"{Kind.LATE}:{row['flow_group_id']}", []).append(row)
    for key, rows in by_flow.items():
        _late(around, found, key, rows)
    for key in around.keys_of(Kind.LATE) - by_flow.keys():
        flow = _flow(around, key.partition(":")[2])
        if flow is not None:
            found.relief(key, f"{flow['flow']} is no longer late", _about(flow))


def _late(around: Around, found: Found, key: str, rows: list[RowMapping]) -> None:
    first = rows[0]
    since = first["state_start_time"]
    many = f"; {len(rows)} of its runs are late" if len(rows) > 1 else ""
    what = f"{first['flow']} is late: due {spoken_span((around.now_us - since) / SECOND_US)} ago, and not started{many}"
    fields = _fields(around, first)
    if key not in around.known:  # nobody else needs the reason
        fields["sentence"] = sentence(
            " ".join(run_waits(run_record(first, first["flow"]), around.agents(), {}, around.now))
        )
    found.trouble(key, Kind.LATE, what, _about(first), since / SECOND_US, count=len(rows), **fields)


def look_at_running_runs(around: Around, found: Found) -> None:
    """Look for runs that are stuck, and for those that are near their limit."""
    seen = set()
    for row in _rows(around, _runs().where(FLOW_RUN.c.state.in_(sorted(ACTIVE)))):
        seen.add(row["id"])
        figures = around.sources.live.figures(row["id"])
        _stuck(around, found, row, figures)
        _near_limit(around, found, row, figures)
    for key in around.keys_of(Kind.STUCK):
        run_id = key.partition(":")[2]
        ended = [] if run_id in seen else list(_rows(around, _runs().where(FLOW_RUN.c.id == run_id)))
        for row in ended:
            how = f"has ended: {row['state']}" if row["state"] in FINISHED else _NOT_STUCK
            found.relief(key, f"{row['flow']} {how}", _about(row), **_fields(around, row))


def _stuck(around: Around, found: Found, row: RowMapping, figures: RunFigures | None) -> None:
    key, reason = f"{Kind.STUCK}:{row['id']}", around.sources.stuck_runs.reason(around.connection, row, around.now)
    if not reason and figures is None and row["state"] == RunState.RUNNING:
        found.kept.add(key)  # its agent has not reported it yet
    elif reason:
        # The reason has a time limit of its own, so it has lasted long enough.
        found.trouble(key, Kind.STUCK, f"{row['flow']} is stuck: {reason}", _about(row), 0.0, **_fields(around, row))
    else:
        found.relief(key, f"{row['flow']} {_NOT_STUCK}", _about(row), **_fields(around, row))


def _near_limit(around: Around, found: Found, row: RowMapping, figures: RunFigures | None) -> None:
    key = f"{Kind.NEAR_LIMIT}:{row['id']}"
    if figures is None or figures.memory_bytes is None or not figures.memory_limit_bytes:
        found.kept.add(key)
        return
    used, limit = figures.memory_bytes, figures.memory_limit_bytes
    uses = memory_title(row["flow"], used, limit)
    if is_near_limit(used, limit, was_near=key in around.known):
        found.trouble(key, Kind.NEAR_LIMIT, uses, _about(row), 0.0, **_fields(around, row))
    else:
        found.relief(key, f"{uses} again", _about(row), **_fields(around, row))


def _runs() -> Select[Any]:
    names = (
        *("id", "name", "labels", "state", "state_message", "state_timestamp", "state_start_time", "flow_id"),
        *("agent_id", "created", "scheduled_start_time", "start_time", "end_time"),
        *("repeats", "created_by"),
    )
    query = select(
        *(FLOW_RUN.c[name] for name in names),
        FLOW.c.name.label("flow"),
        FLOW.c.flow_group_id,
        PROJECT.c.name.label("project"),
        AGENT.c.name.label("agent"),
    )
    return (
        query.join(FLOW, FLOW.c.id == FLOW_RUN.c.flow_id)
        .join(PROJECT, PROJECT.c.id == FLOW.c.project_id)
        .outerjoin(AGENT, AGENT.c.id == FLOW_RUN.c.agent_id)
    )


def _rows(around: Around, query: Select[Any]) -> Iterator[RowMapping]:
    yield from around.connection.execute(query.limit(_MOST_ROWS)).mappings()


def _flow(around: Around, group_id: str) -> RowMapping | None:
    query = select(FLOW.c.name.label("flow"), PROJECT.c.name.label("project"))
    query = query.join(PROJECT, PROJECT.c.id == FLOW.c.project_id).where(FLOW.c.flow_group_id == group_id)
    return around.connection.execute(query.order_by(FLOW.c.version.desc()).limit(1)).mappings().first()


def _about(row: RowMapping) -> Subject:
    return Subject(flow=row["flow"], project=row["project"], labels=tuple(row.get("labels") or ()))


def _fields(around: Around, row: RowMapping) -> dict[str, Any]:
    return {
        "run_id": row["id"],
        "run_name": row["name"],
        "state": row["state"],
        "agent": row["agent"],
        "link": around.run_link(row["id"]),
    }
