"""The agents: `/agents`, one panel each, with its runs and its host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import Connection, select

from flowherd import __version__
from flowherd.host_figures import DiskFigures
from flowherd.states import TAKEN, RunState
from flowherd.story.agent_rows import AWAY, CONNECTED, STOPPED, AgentRow
from flowherd.web.formats import counted, size
from flowherd.web.marks import Mark
from flowherd_server.pages.agent_views import known_agents, mark_of_agent
from flowherd_server.pages.frame import FIGURES, Ask, NoSuchPage, Page
from flowherd_server.service import ServerCore
from flowherd_server.store.tables import FLOW, FLOW_RUN

#: Most agents on the page, and places that are drawn of one.
_MOST, _MOST_PLACES = 200, 48
#: Maximum number of running runs that are read.
_MOST_RUNS = 2000
#: Times from here on are damage, seconds since the epoch.
_LATEST_S = 1e11


@dataclass(frozen=True)
class _Place:
    """A run of an agent, as a block."""

    address: str
    title: str
    #: run, warn or wait.
    tone: str


@dataclass(frozen=True)
class _Panel:
    """What is shown of one agent."""

    row: AgentRow
    mark: Mark
    says: str
    places: Sequence[_Place]
    free: int
    more_places: int
    #: Names and addresses of its runs, for one that is away.
    lost: Sequence[_Place]
    disk: DiskFigures | None
    memory_share: float | None
    #: Whether it takes orders from the server, and what it was asked and has not answered.
    takes_orders: bool
    asked: Sequence[str]
    is_older: bool

    @property
    def id(self) -> str:
        """Id of its newest row, by which actions name it."""
        return self.row.agent.id

    @property
    def since(self) -> datetime | None:
        """When it was started; None if it is away, or does not say so."""
        since_s = self.row.report.since
        if since_s is None or not self.row.is_there or not 0 < since_s < _LATEST_S:
            return None
        return datetime.fromtimestamp(since_s, timezone.utc)

    @property
    def unsent(self) -> str:
        """Output that the server does not have yet."""
        report = self.row.report
        if report.unsent_bytes is None:
            return "not known"
        most = "" if report.unsent_most_bytes is None else f" of {size(report.unsent_most_bytes)}"
        return size(report.unsent_bytes) + most


def agents_page(ask: Ask) -> Page:
    """Return the page. While somebody looks at it, agents report every two seconds."""
    ask.core.live.watch()
    rows = known_agents(ask.core, ask.connection)
    wants_all = ask.query.get("all") == "1"
    shown = [row for row in rows if wants_all or row.was_heard_lately]
    runs = runs_by_agent(ask.connection)
    panels = [_panel(row, ask, runs) for row in shown[:_MOST]]
    headline, sentence = _headline(shown)
    return Page(
        template="agents.html",
        title=headline,
        values={
            "headline": headline,
            "sentence": sentence,
            "panels": panels,
            "hidden": len(rows) - len(shown),
            "may_stop": ask.core.live.may_stop_agents,
            "server_version": __version__,
            "is_any_there": any(row.is_there for row in shown),
        },
        here="/agents",
        live=("agents", "runs", FIGURES),
    )


def agent_named(core: ServerCore, connection: Connection, agent_id: str) -> AgentRow:
    """Return the agent one of whose rows has this id. Raises NoSuchPage."""
    found = next((row for row in known_agents(core, connection) if agent_id in row.ids), None)
    if found is None:
        raise NoSuchPage("The server does not know this agent any more; look at the list of agents.")
    return found


def runs_by_agent(connection: Connection) -> dict[str, list[Mapping[str, Any]]]:
    """Return the runs that agents have, by the agents' ids, the longest first."""
    columns = [
        FLOW_RUN.c[name] for name in ("id", "name", "state", "state_timestamp", "start_time", "flow_id", "agent_id")
    ]
    query = select(*columns, FLOW.c.name.label("flow_name")).join(FLOW, FLOW.c.id == FLOW_RUN.c.flow_id)
    query = query.where(FLOW_RUN.c.state.in_(sorted(TAKEN)))
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in connection.execute(query.order_by(FLOW_RUN.c.start_time).limit(_MOST_RUNS)).mappings().all():
        found.setdefault(row["agent_id"], []).append(dict(row))
    return found


def _panel(row: AgentRow, ask: Ask, by_agent: Mapping[str, Sequence[Mapping[str, Any]]]) -> _Panel:
    places = [_place(run, ask) for agent_id in row.ids for run in by_agent.get(agent_id, [])]
    report = row.report
    limit = report.limit if report.limit is not None else len(places)
    drawn = places[:_MOST_PLACES]
    host = report.host_figures
    memory = None
    if host is not None and host.memory_total_bytes and host.memory_available_bytes is not None:
        memory = 1 - host.memory_available_bytes / host.memory_total_bytes
    return _Panel(
        row=row,
        mark=mark_of_agent(row),
        says=_says(row),
        places=drawn,
        free=max(0, min(_MOST_PLACES, limit) - len(drawn)),
        more_places=max(0, max(limit, len(places)) - _MOST_PLACES),
        lost=places if row.state == AWAY else [],
        disk=next(iter(host.disks), None) if host is not None else None,
        memory_share=memory,
        takes_orders=bool(report.remote) and row.is_there,
        asked=[order.action.value for agent_id in row.ids for order in ask.core.live.orders.pending(agent_id)],
        is_older=bool(report.version) and report.version != __version__,
    )


def _place(run: Mapping[str, Any], ask: Ask) -> _Place:
    why = ask.core.stuck_runs.reason(ask.connection, run, ask.now)
    tone = "warn" if why else "wait" if run["state"] == RunState.CANCELLING else "run"
    title = f"{run['flow_name']}, {run['name']}" + (": stuck" if why else "")
    return _Place(f"/runs/{run['id']}", title, tone)


def _says(row: AgentRow) -> str:
    heard = row.agent.last_queried
    if row.state in (AWAY, STOPPED):
        return "never heard of" if heard is None else ""
    if row.state == CONNECTED:
        return "waits for work"
    return row.why() or "claims nothing"


def _headline(rows: Sequence[AgentRow]) -> tuple[str, str]:
    """Return how many agents are there and which are not, and how many slots are in use."""
    if not rows:
        return "No agent has ever been here.", ""
    there, away = [row for row in rows if row.is_there], [row for row in rows if row.state == AWAY]
    agents, verb = counted(len(there) + len(away), "agent"), "is" if len(there) == 1 else "are"
    said = f"{agents} {verb} there." if there else "No agent is there."
    if away:
        names = ", ".join(row.agent.name for row in away[:3]) + (f" and {len(away) - 3} more" if len(away) > 3 else "")
        said = f"{len(there)} of {agents} {verb} there; {names} {'is' if len(away) == 1 else 'are'} away."
    if not there:
        return said, ""
    runs, limits = sum(row.runs or 0 for row in there), [row.report.limit for row in there]
    known = [limit for limit in limits if limit is not None]
    slots = f"{runs} of {sum(known)} slots in use" if len(known) == len(limits) else f"{counted(runs, 'slot')} in use"
    return said, f"{slots}. Each agent looks after the runs of its own host."
