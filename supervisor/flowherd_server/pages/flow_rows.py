"""Flows as the pages list them: how each stands, its last runs, how long it usually takes, what comes next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from sqlalchemy import ColumnElement, Connection, and_, func, select

from flowherd.schedules.in_words import cron_lines, schedule_in_words, zones_of
from flowherd.states import CLAIMABLE, SUCCESSFUL, TAKEN, RunState
from flowherd.story.asked_by import by_phrase
from flowherd.story.order import BAD, LATE_AFTER
from flowherd_server.runs.create_flow_runs import default_labels
from flowherd_server.service import ServerCore
from flowherd_server.store.microseconds import SECOND_US, now_us, to_datetime
from flowherd_server.store.plain import plain
from flowherd_server.store.run_counts import RUN_COUNT
from flowherd_server.store.tables import FLOW, FLOW_GROUP, FLOW_RUN, PROJECT

#: Number of a flow's newest versions whose runs are looked at.
_VERSIONS = 3
#: Maximum number of running runs that are looked at.
_MOST_RUNNING = 1000
#: How many of the last runs are read.
LAST = 30
_PAST_RUNS = """
SELECT f.flow_group_id, r.id, r.name, r.state, r.state_message, r.start_time, r.end_time
FROM flow f JOIN flow_run r ON r.seq IN (
    SELECT seq FROM flow_run WHERE flow_id = f.id AND start_time IS NOT NULL ORDER BY start_time DESC LIMIT :most)
WHERE f.flow_group_id IN (SELECT value FROM json_each(:groups)) AND f.version > (
    SELECT max(version) FROM flow o WHERE o.flow_group_id = f.flow_group_id) - :versions
ORDER BY r.start_time DESC
"""
_NEXT = (
    "SELECT f.id, (SELECT min(scheduled_start_time) FROM flow_run r WHERE r.flow_id = f.id AND r.state = 'Scheduled' "
    "AND r.scheduled_start_time >= :now) FROM flow f WHERE NOT f.archived"
)


class PastRun(NamedTuple):
    """A run that has started."""

    id: str
    name: str
    state: str
    says: str
    start_us: int
    end_us: int | None

    @property
    def took_s(self) -> float | None:
        """How long it took, seconds; None while it goes."""
        return None if self.end_us is None else (self.end_us - self.start_us) / SECOND_US

    @property
    def kind(self) -> str:
        """What the small pictures show it as: ok, bad, stop, run or wait."""
        return kind_of_state(self.state)


@dataclass(frozen=True, kw_only=True)
class FlowRow:
    """A flow that is registered, in its newest version."""

    id: str
    group: str
    name: str
    version: int
    project: str
    #: Whether another project has a flow of this name.
    is_shared_name: bool
    labels: Sequence[str]
    #: The schedule that it follows, as the dialect writes it; None if it has none.
    schedule: Mapping[str, Any] | None
    is_active: bool
    #: Since when the schedule is on or off, and who switched it; None and empty if that is not known.
    switched_us: int | None
    switched_by: str
    created_us: int
    #: Its newest runs that have started, the newest first.
    past: Sequence[PastRun]
    #: Number of its runs that an agent has, and of those that are late.
    running: int
    late: int
    #: Why one of its running runs is stuck; empty if none is.
    stuck: str
    next_us: int | None
    #: How long its good runs usually take, seconds; None if there are too few.
    usual_s: float | None

    @property
    def address(self) -> str:
        """The address of its page."""
        return flow_address(self.name, self.id, self.project if self.is_shared_name else None)

    @property
    def ended(self) -> PastRun | None:
        """Its newest run that has ended."""
        return next((run for run in self.past if run.end_us is not None), None)

    @property
    def is_bad(self) -> bool:
        """Whether its newest ended run ended badly."""
        return self.ended is not None and self.ended.kind == "bad"

    @property
    def is_paused(self) -> bool:
        """Whether it has a schedule that is switched off."""
        return self.schedule is not None and not self.is_active

    @property
    def switched(self) -> datetime | None:
        """Since when the schedule is on or off."""
        return None if self.switched_us is None else to_datetime(self.switched_us)

    @cached_property
    def when(self) -> str:
        """When its schedule fires, in words; empty without one."""
        return schedule_in_words(self.schedule)

    @property
    def written(self) -> str:
        """The schedule as it is written: its cron expressions; of intervals the words."""
        return cron_lines(self.schedule)

    @property
    def zones(self) -> str:
        """The time zones of its schedule."""
        return ", ".join(zones_of(self.schedule))

    @property
    def trouble(self) -> int:
        """Its place in a list that begins with trouble."""
        return next(n for n, is_so in enumerate((self.stuck, self.is_bad, self.late, self.running, True)) if is_so)


def kind_of_state(state: str) -> str:
    """Return what the small pictures show a run in this state as: ok, bad, stop, run or wait."""
    if state in SUCCESSFUL:
        return "ok"
    if state in BAD:
        return "bad"
    if state in TAKEN:
        return "run"
    return "stop" if state == RunState.CANCELLED else "wait"


def flow_address(name: str, flow_id: str, project: str | None = None) -> str:
    """Return the address of a flow's page; with a project, if others have a flow of this name.

    By the id, if the name cannot stand in an address: browsers take `..` for the folder above.
    """
    part = name if name.isprintable() and name.strip(".") else flow_id
    return f"/flows/{quote(part, safe='')}" + (f"?{urlencode({'project': project})}" if project else "")


def outcomes(runs: Sequence[PastRun]) -> str:
    """Return in words how runs went: 17 of the last 20 went well, 1 failed, 2 cancelled."""
    kinds = [run.kind for run in runs]
    parts = [f"{kinds.count('ok')} of the last {len(kinds)} went well"]
    parts += [
        f"{kinds.count(kind)} {word}" for kind, word in (("bad", "failed"), ("stop", "cancelled")) if kind in kinds
    ]
    return ", ".join(parts)


def flow_rows(core: ServerCore, connection: Connection, now_us: int, *conditions: ColumnElement[bool]) -> list[FlowRow]:
    """Return the registered flows that meet the conditions, trouble first and then by name."""
    columns = [
        FLOW.c[name] for name in ("id", "flow_group_id", "name", "version", "schedule", "run_config", "environment")
    ]
    query = select(
        *columns,
        FLOW.c.is_schedule_active,
        FLOW.c.schedule_since,
        FLOW.c.schedule_by,
        FLOW.c.created,
        PROJECT.c.name.label("project"),
        FLOW_GROUP.c.labels.label("group_labels"),
        FLOW_GROUP.c.run_config.label("group_run_config"),
        FLOW_GROUP.c.schedule.label("group_schedule"),
    ).join(PROJECT, PROJECT.c.id == FLOW.c.project_id)
    query = query.join(FLOW_GROUP, FLOW_GROUP.c.id == FLOW.c.flow_group_id).where(~FLOW.c.archived, *conditions)
    found = list(connection.execute(query).mappings())
    groups = [row["flow_group_id"] for row in found]
    names = shared_names(connection)
    past = past_runs(connection, groups)
    coming = dict(plain(connection).execute(_NEXT, {"now": now_us}).fetchall())
    running, late = _running(connection), _late(connection, now_us)
    is_stuck = _stuck(core, connection) if running else {}
    rows = [
        FlowRow(
            id=row["id"],
            group=row["flow_group_id"],
            name=row["name"],
            version=row["version"],
            project=row["project"],
            is_shared_name=row["name"] in names,
            labels=default_labels({**row}, {"labels": row["group_labels"], "run_config": row["group_run_config"]}),
            schedule=row["group_schedule"] or row["schedule"],
            is_active=bool(row["is_schedule_active"]),
            switched_us=row["schedule_since"],
            switched_by=by_phrase(row["schedule_by"]),
            created_us=row["created"],
            past=past.get(row["flow_group_id"], []),
            running=running.get(row["flow_group_id"], 0),
            late=late.get(row["flow_group_id"], 0),
            stuck=is_stuck.get(row["flow_group_id"], ""),
            next_us=coming.get(row["id"]),
            usual_s=core.usual.of_flow(connection, row["id"]),
        )
        for row in found
    ]
    return sorted(rows, key=lambda row: (row.trouble, row.name, row.project))


def shared_names(connection: Connection) -> set[str]:
    """Return the names that flows of several projects have."""
    query = select(FLOW.c.name).where(~FLOW.c.archived).group_by(FLOW.c.name).having(func.count() > 1)
    return set(connection.execute(query).scalars())


def past_runs(connection: Connection, groups: Sequence[str], most: int = LAST) -> dict[str, list[PastRun]]:
    """Return the newest runs that have started, of each flow group, the newest first."""
    found: dict[str, list[PastRun]] = {}
    given = {"groups": json.dumps(groups), "versions": _VERSIONS, "most": most}
    for group, *run in plain(connection).execute(_PAST_RUNS, given):
        runs = found.setdefault(group, [])
        if len(runs) < most:
            runs.append(PastRun(*run))
    return found


def _running(connection: Connection) -> dict[str, int]:
    query = select(FLOW.c.flow_group_id, func.sum(RUN_COUNT.c.runs)).join(FLOW, FLOW.c.id == RUN_COUNT.c.flow_id)
    query = query.where(RUN_COUNT.c.state.in_(sorted(TAKEN))).group_by(FLOW.c.flow_group_id)
    return {group: int(number) for group, number in connection.execute(query)}


def is_late(now_us: int) -> ColumnElement[bool]:
    """Return the condition of a flow run that it is late."""
    return and_(
        FLOW_RUN.c.state.in_(sorted(CLAIMABLE - {RunState.PAUSED})),
        FLOW_RUN.c.state_start_time < now_us - round(LATE_AFTER.total_seconds() * SECOND_US),
    )


def _late(connection: Connection, now_us: int) -> dict[str, int]:
    query = select(FLOW.c.flow_group_id, func.count()).join(FLOW, FLOW.c.id == FLOW_RUN.c.flow_id)
    query = query.where(is_late(now_us)).group_by(FLOW.c.flow_group_id)
    return {row[0]: row[1] for row in connection.execute(query)}


def _stuck(core: ServerCore, connection: Connection) -> dict[str, str]:
    """Return why a run of a flow group is stuck, of those that have one."""
    columns = [FLOW_RUN.c[name] for name in ("id", "state", "state_timestamp", "flow_id")]
    query = select(*columns, FLOW.c.flow_group_id).join(FLOW, FLOW.c.id == FLOW_RUN.c.flow_id)
    query = query.where(FLOW_RUN.c.state.in_([RunState.RUNNING.value, RunState.CANCELLING.value])).limit(_MOST_RUNNING)
    found, now = dict[str, str](), to_datetime(now_us())
    for row in connection.execute(query).mappings().all():
        why = core.stuck_runs.reason(connection, row, now)
        if why:
            found.setdefault(row["flow_group_id"], why)
    return found
