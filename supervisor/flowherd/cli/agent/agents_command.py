"""`flowherd agents`: the agents that the server knows, and how each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli.format_times import short_span
from flowherd.cli.open_client import open_client
from flowherd.cli.options import ApiOption, JsonArrayOption, WideOption
from flowherd.cli.printing import is_terminal, print_json, print_note
from flowherd.cli.tables import Column, Cut, show_table, state_style
from flowherd.story.agent_rows import AgentRow, agent_rows

if TYPE_CHECKING:
    pass


def _heard(row: AgentRow) -> str:
    """Return how long ago an agent made its last request."""
    if row.agent.last_queried is None:
        return "never"
    seconds = (row.now - row.agent.last_queried).total_seconds()
    return "now" if seconds < 1 else f"{short_span(seconds)} ago"


def _load(row: AgentRow) -> str:
    """Return the load of an agent's host, and its number of processors: 5.1/16."""
    report = row.report
    return "" if report.load is None else f"{report.load:.1f}/{report.cpus or '?'}"


def _unsent(row: AgentRow) -> str:
    size = row.report.unsent_bytes
    return "" if not size else f"{size / 1024:.0f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"


_COLUMNS: Sequence[Column[AgentRow]] = (
    Column("AGENT", lambda row: row.agent.name, cut=Cut.MIDDLE, least=8, best=20),
    Column("STATE", lambda row: row.state, style=state_style),
    Column("RUNS", AgentRow.places, order=lambda row: row.runs),
    Column(
        "LAST HEARD",
        _heard,
        rank=2,
        order=lambda row: None if row.agent.last_queried is None else row.agent.last_queried.timestamp(),
    ),
    Column("LABELS", lambda row: " ".join(row.agent.labels), cut=Cut.MIDDLE, least=8, best=24, rank=3),
    Column("LOAD", _load, rank=4, order=lambda row: row.report.load),
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
    shown = [row for row in rows if show_all or row.was_heard_lately]
    hidden = len(rows) - len(shown)
    more = f"{hidden} more, not heard of for a day: --all" if hidden else ""
    if as_json:
        print_json([_fields(row) for row in shown])
    elif shown or not is_terminal():
        show_table(_COLUMNS, shown, wide=wide, more=more)
    else:
        print_note(f"no agent has been connected; start one with `flowherd start`{f' ({more})' if more else ''}")


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
