"""The server's metrics, at GET /metrics: what it has counted, and what is so now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from sqlalchemy import Connection, func, select, text

from flowherd.metrics.common import build_info, host_samples
from flowherd.metrics.exposition import exposition
from flowherd.metrics.families import Part
from flowherd.metrics.tally import Sample
from flowherd.states import CLAIMABLE, FINISHED, RunState
from flowherd.story.agent_report import read_agent_report
from flowherd.story.order import LATE_AFTER
from flowherd_server.service import ServerCore
from flowherd_server.store.microseconds import SECOND_US, now_us
from flowherd_server.store.notification_tables import NOTIFICATION, WAITS
from flowherd_server.store.run_counts import RUN_COUNT
from flowherd_server.store.tables import AGENT, FLOW_RUN

#: States that have series from the start.
_STATES = (RunState.SCHEDULED, RunState.SUBMITTED, RunState.RUNNING)
#: Agents without a request for a day are left out, and those without one for a minute are away.
_AGENT_AGE_US, _AWAY_US = 24 * 3600 * SECOND_US, 60 * SECOND_US
#: Why an agent that is not heard of any more claimed nothing, if it was stopped on purpose.
_STOPPED = frozenset({"draining", "stopping"})
_DUE = FLOW_RUN.c.state.in_(sorted(CLAIMABLE - {RunState.PAUSED}))


def metrics_page(core: ServerCore, accept: str) -> tuple[bytes, str]:
    """Return all metrics and their media type. For a thread that may read the database."""
    core.contacts.store()
    with core.database.reading() as connection:
        core.measures.begin(connection)
        found = list(gauges(core, connection))
    return exposition(Part.SERVER, core.measures.tally, found, accept)


def gauges(core: ServerCore, connection: Connection) -> Iterator[Sample]:
    """Yield what is so now."""
    now = now_us()
    yield build_info(Part.SERVER)
    yield Sample("flowherd_up", float(not core.database.problem))
    yield from host_samples(core.host.newest or core.host.look())
    yield from _runs_by_state(connection)
    oldest = connection.execute(select(func.min(FLOW_RUN.c.state_start_time)).where(_DUE)).scalar()
    yield Sample("flowherd_oldest_due_seconds", 0.0 if oldest is None else max(0.0, (now - oldest) / SECOND_US))
    late_us = now - round(LATE_AFTER.total_seconds() * SECOND_US)
    late = select(func.count()).select_from(FLOW_RUN).where(_DUE, FLOW_RUN.c.state_start_time < late_us)
    yield Sample("flowherd_late_runs", float(connection.execute(late).scalar() or 0))
    yield from _agents(core, connection, now)
    waiting = select(NOTIFICATION.c.channel, func.count()).where(text(WAITS)).group_by(NOTIFICATION.c.channel)
    for channel, count in connection.execute(waiting):
        yield Sample("flowherd_notifications_waiting", float(count), (channel,))
    yield Sample("flowherd_database_bytes", float(_pragma(connection, "page_count") * _pragma(connection, "page_size")))


def _runs_by_state(connection: Connection) -> Iterator[Sample]:
    kept = select(RUN_COUNT.c.state, func.sum(RUN_COUNT.c.runs).label("runs")).group_by(RUN_COUNT.c.state)
    states = {state.value: 0 for state in _STATES}
    states |= {row.state: row.runs for row in connection.execute(kept) if row.state not in FINISHED}
    return (Sample("flowherd_runs", float(count), (state,)) for state, count in states.items())


def _agents(core: ServerCore, connection: Connection, now: int) -> Iterator[Sample]:
    """Count agents by name: one that was started again has another id."""
    rows = select(AGENT.c.id, AGENT.c.name, AGENT.c.last_queried, AGENT.c.report)
    recent = rows.where(AGENT.c.last_queried > now - _AGENT_AGE_US).order_by(AGENT.c.last_queried)
    by_name: dict[str, str] = {}
    for row in connection.execute(recent):
        report = read_agent_report(row.report)
        is_here = core.board.is_connected(row.id) or now - row.last_queried < _AWAY_US
        gone = "stopped" if report is not None and report.hold in _STOPPED else "away"
        by_name[row.name or row.id] = "connected" if is_here else gone
    counts = Counter(dict.fromkeys(("connected", "away", "stopped"), 0))
    counts.update(by_name.values())
    return (Sample("flowherd_agents", float(count), (state,)) for state, count in counts.items())


def _pragma(connection: Connection, name: str) -> int:
    found: int = connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0
    return found
