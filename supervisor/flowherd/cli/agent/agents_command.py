"""`flowherd agents`: the agents that the server knows, and how each is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli.format_times import short_span
from flowherd.cli.open_client import open_client
from flowherd.cli.options import ApiOption, JsonArrayOption, WideOption
from flowherd.cli.printing import is_terminal, print_json, print_note
from flowherd.cli.tables import Column, Cut, show_table, state_style
from flowherd.story.agent_report import AgentReport

if TYPE_CHECKING:
    from flowherd.client.agents import AgentView

#: Agents that have not been heard of for longer are shown with --all only.
_LATELY = timedelta(hours=24)
#: Words of a hold by which an agent announces its end.
_ENDING = frozenset({"stopping", "draining"})
#: In this order states are listed; others between the last two.
_ORDER = ("away", "draining", "paused", "stopped", "connected")
_NOTHING = AgentReport()
_NEVER = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class AgentRow:
    """An agent: all rows of the server with its name and host are one."""

    agent: AgentView
    state: str
    #: Number of runs that it has; None if that is not known.
    runs: int | None
    now: datetime

    @property
    def report(self) -> AgentReport:
        """What it last reported of itself; nothing if it does not."""
        return self.agent.report or _NOTHING

    def places(self) -> str:
        """Return how many runs it has, and the most that it takes: 5 of 8."""
        if self.runs is None:
            return ""
        return f"{self.runs} of {self.report.limit}" if self.report.limit is not None else str(self.runs)

    def heard(self) -> str:
        """Return how long ago it made its last request."""
        if self.agent.last_queried is None:
            return "never"
        seconds = (self.now - self.agent.last_queried).total_seconds()
        return "now" if seconds < 1 else f"{short_span(seconds)} ago"

    def load(self) -> str:
        """Return the load of its host, and its number of processors: 5.1/16."""
        report = self.report
        return "" if report.load is None else f"{report.load:.1f}/{report.cpus or '?'}"

    def why(self) -> str:
        """Return why it claims nothing, if it said so."""
        return self.report.hold_reason if self.state not in ("connected", "away", "stopped") else ""


def _unsent(row: AgentRow) -> str:
    size = row.report.unsent_bytes
    return "" if not size else f"{size / 1024:.0f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"


_COLUMNS: Sequence[Column[AgentRow]] = (
    Column("AGENT", lambda row: row.agent.name, cut=Cut.MIDDLE, least=8, best=20),
    Column("STATE", lambda row: row.state, style=state_style),
    Column("RUNS", AgentRow.places, order=lambda row: row.runs),
    Column(
        "LAST HEARD",
        AgentRow.heard,
        rank=2,
        order=lambda row: None if row.agent.last_queried is None else row.agent.last_queried.timestamp(),
    ),
    Column("LABELS", lambda row: " ".join(row.agent.labels), cut=Cut.MIDDLE, least=8, best=24, rank=3),
    Column("LOAD", AgentRow.load, rank=4, order=lambda row: row.report.load),
    Column("VERSION", lambda row: row.report.version, rank=5),
    Column("HOST", lambda row: row.report.host, cut=Cut.MIDDLE, least=8, best=20, rank=6),
    Column("UNSENT", _unsent, rank=7, order=lambda row: row.report.unsent_bytes),
    Column("WHY", AgentRow.why, cut=Cut.END, least=24, best=60, rank=2),
)


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("agents", epilog="Example:  flowherd agents --json | jq '.[] | select(.state == \"away\")'")(agents)


def agents(
    show_all: Annotated[
        bool, typer.Option("--all", "-a", help="Show agents too that were not heard of for a day.")
    ] = False,
    wide: WideOption = False,
    api: ApiOption = None,
    as_json: JsonArrayOption = False,
) -> None:
    """List the agents that the server knows: state, runs and limit, last contact, and why one claims nothing."""
    client, _ = open_client(api)
    now = datetime.now(timezone.utc)
    rows = agent_rows(client.agents.with_runs(), now)
    shown = [row for row in rows if show_all or _was_heard_lately(row)]
    hidden = len(rows) - len(shown)
    more = f"{hidden} more, not heard of for a day: --all" if hidden else ""
    if as_json:
        print_json([_fields(row) for row in shown])
    elif shown or not is_terminal():
        show_table(_COLUMNS, shown, wide=wide, more=more)
    else:
        print_note(f"no agent has been connected; start one with `flowherd start`{f' ({more})' if more else ''}")


def agent_rows(found: Iterable[AgentView], now: datetime) -> list[AgentRow]:
    """Return the agents, trouble first; rows of one name on one host are one agent, which was started again."""
    same: dict[Any, list[AgentView]] = {}
    for agent in found:
        host = agent.report.host if agent.report is not None else None
        same.setdefault((agent.name, host or agent.labels), []).append(agent)
    rows = []
    for views in same.values():
        newest = max(
            views, key=lambda view: (view.alive(now), view.last_queried or datetime.min.replace(tzinfo=now.tzinfo))
        )
        counts = [view.runs for view in views if view.runs is not None]
        runs = sum(counts) if counts else None
        rows.append(AgentRow(newest, _state(newest, runs, now), runs, now))
    return sorted(rows, key=lambda row: (_place(row.state), row.agent.name))


def _state(agent: AgentView, runs: int | None, now: datetime) -> str:
    hold = agent.report.hold if agent.report is not None else ""
    if agent.alive(now):
        return hold or "connected"
    if hold in _ENDING:
        # An agent that drains asks for no runs any more; its last report says so, and its runs go on.
        return "draining" if hold == "draining" and runs else "stopped"
    return "away"


def _place(state: str) -> int:
    return _ORDER.index(state) if state in _ORDER else _ORDER.index("stopped")


def _was_heard_lately(row: AgentRow) -> bool:
    heard = row.agent.last_queried
    return row.agent.alive(row.now) or bool(row.runs) or (heard is not None and row.now - heard < _LATELY)


def _fields(row: AgentRow) -> Mapping[str, Any]:
    agent, report = row.agent, row.report
    return {
        "id": agent.id,
        "name": agent.name,
        "state": row.state,
        "reason": row.why() or None,
        "labels": list(agent.labels),
        "runs": row.runs,
        "limit": report.limit,
        "host": report.host or None,
        "version": report.version or None,
        "python": report.python or None,
        "pid": report.pid,
        "since": None if report.since is None else datetime.fromtimestamp(report.since, timezone.utc),
        "load": report.load,
        "cpus": report.cpus,
        "unsent_bytes": report.unsent_bytes,
        "last_heard": agent.last_queried,
        "reported": agent.reported,
    }
