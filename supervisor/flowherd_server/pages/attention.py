"""What needs a person's attention, in this order: flows whose newest ended run is bad, stuck runs, late runs, agents
that are away, and this host.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import select

from flowherd.host_figures import DiskFigures, HostFigures
from flowherd.notify.thresholds import MUCH_UNSENT
from flowherd.states import SUCCESSFUL
from flowherd.story.order import BAD
from flowherd.web import marks
from flowherd.web.formats import about, counted, size
from flowherd.web.marks import Mark, mark_of
from flowherd_server.pages.agent_views import ShownAgent
from flowherd_server.pages.frame import Ask
from flowherd_server.pages.run_rows import RunRow
from flowherd_server.store.microseconds import SECOND_US, to_datetime
from flowherd_server.store.plain import plain
from flowherd_server.store.tables import FLOW, FLOW_RUN

#: How far back the end of a failed flow is looked for, microseconds, and how many failed runs are looked at.
_LOOKED_AT_US, _FAILED = 7 * 86400 * SECOND_US, 300
#: Most flows that are named, and the newest runs of each that are looked at.
_MOST_FLOWS, _RUNS = 50, 20
_VERSIONS = 3
#: Characters of a message that are shown.
_MAX_WHY = 300
#: As plain statements, since there may be many flows: an expression of SQLAlchemy costs ten times as much.
_FLOWS = f"SELECT id, name, archived FROM flow WHERE flow_group_id = ? ORDER BY version DESC LIMIT {_VERSIONS}"
_RUN = (
    "SELECT id, state, end_time, substr(state_message, 1, ?), "
    "json_extract(serialized_state, '$.context.flowherd.grade') FROM flow_run WHERE seq = ?"
)
_NEWEST = (
    "SELECT seq, state, end_time FROM flow_run WHERE flow_id = ? AND start_time IS NOT NULL "
    "ORDER BY start_time DESC LIMIT ?"
)
_BAD_OR_GOOD = frozenset(state.value for state in BAD | SUCCESSFUL)


@dataclass(frozen=True, kw_only=True)
class Need:
    """One line."""

    #: Tells it from others, and stays the same.
    key: str
    mark: Mark
    what: str
    path: str
    #: How often, which run, or since when.
    aside: str = ""
    why: str = ""
    grade: str = ""
    at: datetime | None = None
    #: Words and addresses of what can be done; those of `asks` are questions before an action.
    links: Sequence[tuple[str, str]] = ()
    asks: Sequence[tuple[str, str]] = field(default=())


def needs(ask: Ask, rows: Sequence[RunRow], agents: Sequence[ShownAgent], host: HostFigures | None) -> list[Need]:
    """Return what needs attention. `rows` are those of the runs that go on and that are late."""
    found = list(_failed_flows(ask))
    found += [_of_run(row, "stuck", marks.STUCK, ("Log", f"/runs/{row.id}#log")) for row in rows if row.is_stuck]
    found += [_of_run(row, "late", marks.LATE, ("Agents", "/agents")) for row in rows if row.is_late]
    found += [_away(ask, agent) for agent in agents if agent.is_away]
    return [*found, *_host(host), *_disks_of_agents(agents, host), *_unsent(agents)]


def _failed_flows(ask: Ask) -> Iterator[Need]:
    failed = FLOW_RUN.c.state.in_(sorted(BAD)), FLOW_RUN.c.end_time >= ask.now_us - _LOOKED_AT_US
    query = select(FLOW.c.flow_group_id).join(FLOW_RUN, FLOW_RUN.c.flow_id == FLOW.c.id).where(*failed)
    groups = ask.connection.execute(query.order_by(FLOW_RUN.c.end_time.desc()).limit(_FAILED)).scalars()
    for group in list(dict.fromkeys(groups))[:_MOST_FLOWS]:
        need = _failed_flow(ask, group)
        if need is not None:
            yield need


def _failed_flow(ask: Ask, group: str) -> Need | None:
    """Return the line of a flow whose newest run, but for those that were cancelled, is bad."""
    sqlite = plain(ask.connection)
    flows = sqlite.execute(_FLOWS, (group,)).fetchall()
    if not flows or all(archived for _, _, archived in flows):
        return None
    ended = [
        row
        for flow_id, _, _ in flows
        for row in sqlite.execute(_NEWEST, (flow_id, _RUNS))
        if row[2] is not None and row[1] in _BAD_OR_GOOD
    ]
    ended.sort(key=lambda row: -row[2])
    streak = next((n for n, row in enumerate(ended) if row[1] in SUCCESSFUL), len(ended))
    if not streak:
        return None
    run_id, state, end, message, grade = sqlite.execute(_RUN, (_MAX_WHY, ended[0][0])).fetchone()
    more = "at least " if streak >= _RUNS else ""
    return Need(
        key=f"flow-{group}",
        mark=mark_of(state),
        what=flows[0][1],
        path=f"/runs/{run_id}",
        aside=f"{more}{streak} times in a row" if streak > 1 else "",
        why=message or "",
        grade=grade if grade in ("proven", "probable") else "",
        at=to_datetime(end),
        links=(("Log", f"/runs/{run_id}#log"),),
        asks=(("Run again…", f"/runs/again?run={run_id}"),),
    )


def _of_run(row: RunRow, kind: str, mark: Mark, link: tuple[str, str]) -> Need:
    """Return the line of a run that is stuck or late."""
    return Need(
        key=f"{kind}-{row.id}",
        mark=mark,
        what=row.flow,
        path=f"/runs/{row.id}",
        aside=row.name,
        why=row.says,
        at=row.at,
        links=(link,),
        asks=(("Cancel…", f"/runs/cancel?run={row.id}"),),
    )


def _away(ask: Ask, agent: ShownAgent) -> Need:
    view = agent.view
    at = view.last_queried
    since = "" if at is None else f" for {about((ask.now - at).total_seconds() // 60 * 60)[1:]}"
    runs = f"; {counted(agent.runs, 'run')} of it may go on, adopted when it is back" if agent.runs else ""
    return Need(
        key=f"agent-{view.id}",
        mark=marks.AWAY,
        what=view.name or view.id[:8],
        path="/agents",
        aside="agent",
        why=f"Not heard of{since}{runs}",
        at=at,
        links=(("Agents", "/agents"),),
    )


def _host(host: HostFigures | None) -> Iterator[Need]:
    if host is None:
        return
    for disk in host.disks:
        if disk.is_low:
            key, why = f"disk-{disk.name}", _room(disk)
            yield Need(
                key=key, mark=_low("Disk"), what=socket.gethostname(), path="/agents", aside="this host", why=why
            )
    if host.lacks_memory and host.memory_full is not None:
        why = f"All processes waited for memory for {host.memory_full:.0f} % of the last minute"
        name = socket.gethostname()
        yield Need(key="memory", mark=_low("Memory"), what=name, path="/agents", aside="this host", why=why)


def _low(word: str) -> Mark:
    return replace(marks.NEAR, word=word)


def _disks_of_agents(agents: Sequence[ShownAgent], host: HostFigures | None) -> Iterator[Need]:
    """Return those of the agents' disks that are nearly full, each once, and none that `host` has told."""
    told = {(socket.gethostname(), disk.total_bytes) for disk in host.disks} if host is not None else set()
    for agent in agents:
        report = agent.row.report
        for disk in report.host_figures.disks if report.host_figures is not None and not agent.is_away else ():
            place = report.host, disk.total_bytes
            if disk.is_low and place not in told:
                told.add(place)
                key, name = f"disk-{agent.view.id}-{disk.name}", agent.view.name
                yield Need(key=key, mark=_low("Disk"), what=name, path="/agents", aside="agent", why=_room(disk))


def _room(disk: DiskFigures) -> str:
    no_inode = ", and no inode" if disk.free_inodes == 0 else ""
    return f"{size(disk.free_bytes)} of {size(disk.total_bytes)} are free at {disk.path}{no_inode}"


def _unsent(agents: Sequence[ShownAgent]) -> Iterator[Need]:
    for agent in agents:
        report = agent.row.report
        unsent, cap = report.unsent_bytes, report.unsent_most_bytes
        if unsent and cap and unsent > MUCH_UNSENT * cap:
            why = f"{size(unsent)} of output are not sent yet, of at most {size(cap)}"
            key = f"unsent-{agent.view.id}"
            yield Need(key=key, mark=_low("Output"), what=agent.view.name, path="/agents", aside="agent", why=why)
