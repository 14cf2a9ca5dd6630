"""The flow runs that a page lists, in the one order (flowherd/story/order.py), and how many it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, func, not_, or_, select

from flowherd.states import CLAIMABLE, FINISHED, SUCCESSFUL, TAKEN, WAITING, RunState
from flowherd.story.order import (
    BAD,
    LATE_AFTER,
    LATELY,
    MOST_FAILED,
    MOST_NEXT,
    Group,
    Line,
    RunFacts,
    cut,
    group_of,
    in_order,
)
from flowherd_server.store.microseconds import SECOND_US, now_us, to_datetime
from flowherd_server.store.run_counts import runs_by_state
from flowherd_server.store.tables import FLOW, FLOW_RUN

#: Maximum number of running runs that are read; of due ones and of those that ended otherwise, that are shown.
_MOST_RUNNING, _MOST_DUE, _MOST_ENDED = 1000, 50, 20
#: Maximum number of failed runs of which is found out which are in a row.
_MOST_READ = 200

#: Columns of flow_run in each line; with `flow_name` and `flow_group_id`.
COLUMNS = (
    *("id", "seq", "name", "state", "state_message", "state_timestamp", "labels", "flow_id", "agent_id"),
    *("scheduled_start_time", "state_start_time", "start_time", "end_time", "created", "created_by", "repeats"),
)
_RUNNING = FLOW_RUN.c.state.in_(sorted(TAKEN))


@dataclass(frozen=True)
class Paging:
    """Which runs of a list are wanted: a number of them, older or newer than one (`flow_run.seq`)."""

    size: int
    older_than: int | None = None
    newer_than: int | None = None

    @property
    def is_upwards(self) -> bool:
        """Whether the ones next to a run are wanted that are newer."""
        return self.newer_than is not None

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions."""
        if self.newer_than is not None:
            return [FLOW_RUN.c.seq > self.newer_than]
        return [] if self.older_than is None else [FLOW_RUN.c.seq < self.older_than]


@dataclass(frozen=True)
class RunsInOrder:
    """The lines of a page, and what it leaves out."""

    lines: Sequence[Line[RowMapping]]
    #: Number of runs that are due, failed lately, wait and have ended, and are not shown.
    hidden: dict[Group, int]


def runs_in_order(connection: Connection) -> RunsInOrder:
    """Return what runs, is due, failed lately and comes next, then the newest of the others that have ended."""
    now = now_us()
    late = is_late(now)
    failed = and_(
        FLOW_RUN.c.state.in_(sorted(BAD)),
        FLOW_RUN.c.end_time >= now - round(LATELY.total_seconds() * SECOND_US),
    )
    newest = FLOW_RUN.c.end_time.desc()
    failures = _rows(connection, _select(failed).order_by(newest).limit(_MOST_READ))
    rows = [
        *_rows(connection, _select(_RUNNING).limit(_MOST_RUNNING)),
        *_rows(connection, _select(late).order_by(FLOW_RUN.c.state_start_time).limit(_MOST_DUE)),
        *failures,
        *_rows(connection, _next_of_each_flow(now, late)),
        *_rows(connection, _waiting_otherwise(now, late)),
    ]
    # Good runs between failures tell which of these are in a row.
    between = _rows(connection, _good_since(failures)) if failures else []
    # Without a condition, because the index would be read past all of the failures.
    newly = _rows(connection, _select().order_by(newest).limit(_MOST_ENDED + len(failures)))
    ended = [row for row in newly if row["end_time"] is not None]
    by_id = {row["id"]: row for row in (*rows, *between, *ended)}
    lines = in_order(by_id.values(), _facts, to_datetime(now))
    totals = _totals(connection, late, failed)
    most = {Group.DUE: _MOST_DUE, Group.FAILED: MOST_FAILED, Group.NEXT: MOST_NEXT, Group.ENDED: _MOST_ENDED}
    shown = cut(lines, most, totals)
    return RunsInOrder(shown.shown, {group: n for group, n in shown.hidden.items() if group is not Group.RUNNING})


def is_late(now: int) -> ColumnElement[bool]:
    """Return the condition that a run is due for longer than it should be; `now` in microseconds since the epoch."""
    return and_(
        FLOW_RUN.c.state.in_(sorted(CLAIMABLE - {RunState.PAUSED})),
        FLOW_RUN.c.state_start_time < now - round(LATE_AFTER.total_seconds() * SECOND_US),
    )


def runs_where(connection: Connection, *conditions: ColumnElement[bool]) -> list[RowMapping]:
    """Return the runs for which all of these conditions on flow_run and flow hold, in no order."""
    return _rows(connection, _select(*conditions))


def runs_by(connection: Connection, conditions: Sequence[ColumnElement[bool]], page: Paging) -> list[RowMapping]:
    """Return a page of the runs for which all of these conditions on flow_run and flow hold, the newest first."""
    query = _select(*conditions, *page.conditions).limit(page.size)
    rows = _rows(connection, query.order_by(FLOW_RUN.c.seq if page.is_upwards else FLOW_RUN.c.seq.desc()))
    return rows[::-1] if page.is_upwards else rows


def line_of(run: RowMapping, now: int) -> Line[RowMapping]:
    """Return the line of a run that stands for itself."""
    return Line(run, group_of(_facts(run), to_datetime(now)))


def _select(*conditions: ColumnElement[bool]) -> Select[tuple[object, ...]]:
    columns = [FLOW_RUN.c[name] for name in COLUMNS]
    query = select(*columns, FLOW.c.name.label("flow_name"), FLOW.c.flow_group_id)
    return query.join(FLOW, FLOW.c.id == FLOW_RUN.c.flow_id).where(*conditions)


def _rows(connection: Connection, query: Select[tuple[object, ...]]) -> list[RowMapping]:
    return list(connection.execute(query).mappings())


def _next_of_each_flow(now: int, late: ColumnElement[bool]) -> Select[tuple[object, ...]]:
    """Select of the runs that are scheduled for a time to come the first of each flow."""
    place = func.row_number().over(partition_by=FLOW_RUN.c.flow_id, order_by=FLOW_RUN.c.scheduled_start_time)
    # Past all that has ended, in the order of an index.
    coming = and_(FLOW_RUN.c.state == RunState.SCHEDULED.value, FLOW_RUN.c.scheduled_start_time >= now)
    ranked = select(FLOW_RUN.c.seq, place.label("place")).where(coming, _is_not(late)).subquery()
    return _select(FLOW_RUN.c.seq.in_(select(ranked.c.seq).where(ranked.c.place == 1)))


def _waiting_otherwise(now: int, late: ColumnElement[bool]) -> Select[tuple[object, ...]]:
    """Select the runs that wait for a retry or a person, and those that are about to be taken."""
    scheduled = FLOW_RUN.c.state == RunState.SCHEDULED.value
    others = FLOW_RUN.c.state.in_(sorted(WAITING - {RunState.SCHEDULED}))
    wanted = or_(others, and_(scheduled, FLOW_RUN.c.scheduled_start_time < now))
    return _select(wanted, _is_not(late)).order_by(FLOW_RUN.c.state_start_time).limit(_MOST_READ)


def _is_not(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return that a condition does not hold, be it false or null."""
    return func.coalesce(not_(condition), True)


def _good_since(failures: Sequence[RowMapping]) -> Select[tuple[object, ...]]:
    since = min(row["end_time"] for row in failures)
    flows = {row["flow_group_id"] for row in failures}
    good = and_(FLOW_RUN.c.state.in_(sorted(SUCCESSFUL)), FLOW_RUN.c.end_time >= since)
    return _select(good, FLOW.c.flow_group_id.in_(flows)).limit(_MOST_READ)


def _totals(connection: Connection, late: ColumnElement[bool], failed: ColumnElement[bool]) -> dict[Group, int]:
    def number(condition: ColumnElement[bool]) -> int:
        return connection.execute(select(func.count()).select_from(FLOW_RUN).where(condition)).scalar() or 0

    by_state = runs_by_state(connection)
    due, bad = number(late), number(failed)
    return {
        Group.DUE: due,
        Group.FAILED: bad,
        Group.NEXT: sum(by_state.get(state.value, 0) for state in WAITING) - due,
        Group.ENDED: sum(by_state.get(state.value, 0) for state in FINISHED | BAD) - bad,
    }


def _facts(row: RowMapping) -> RunFacts:
    due = row["state_start_time"] if row["state_start_time"] is not None else row["scheduled_start_time"]
    due_at, started, ended = (
        None if at is None else to_datetime(at) for at in (due, row["start_time"], row["end_time"])
    )
    return RunFacts(flow=row["flow_group_id"], state=row["state"], due=due_at, started=started, ended=ended)
