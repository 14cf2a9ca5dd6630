"""The agents: how many runs each has, when it was heard of, its host, and why it claims nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flowherd.cli.format_times import short_span
from flowherd.cli.tables import Column, Cut
from flowherd.cli.tables.layout import fit
from flowherd.cli.top.list_view import agent_state, keys_line
from flowherd.cli.top.picture import AgentRow
from flowherd.cli.top.spans import Line, Span, at_left, bar, clean, fitted, line, restyled, size

_KEYS = (("p", "pause or resume"), ("d", "drain"), ("R", "restart"), ("Esc", "back"), ("q", "quit"))


@dataclass
class AgentsState:
    """What a person has chosen."""

    current: str | None = None
    note: str = ""
    note_style: str = ""


def draw(agents: Sequence[AgentRow], state: AgentsState, width: int, height: int, now: datetime) -> list[Line]:
    """Return the screen of the agents."""
    title = line(" ", Span("Agents", "bold"), f"  {len(agents)}")
    lines: list[Line] = [title, ()]
    if agents:
        lines += _table(agents, current(agents, state), width, now)
    else:
        lines.append(line(Span(" No agent has been connected; start one with `flowherd start`.", "dim")))
    lines = lines[: height - 1]
    keys = line(Span(f" {clean(state.note)}", state.note_style)) if state.note else keys_line(_KEYS, width)
    return [*(fitted(one, width) for one in lines), *([()] * (height - 1 - len(lines))), fitted(keys, width)]


def current(agents: Sequence[AgentRow], state: AgentsState) -> AgentRow | None:
    """Return the agent of the current row; None without agents."""
    return next((agent for agent in agents if agent.name == state.current), agents[0] if agents else None)


def _table(agents: Sequence[AgentRow], here: AgentRow | None, width: int, now: datetime) -> list[Line]:
    columns: Sequence[Column[AgentRow]] = (
        Column("AGENT", lambda agent: agent.name, cut=Cut.MIDDLE, least=8, best=20),
        Column("STATE", lambda agent: agent_state(agent, now) or "connected"),
        Column("RUNS", _places),
        Column("LAST HEARD", lambda agent: _heard(agent, now), rank=2),
        Column("WHY", lambda agent: agent.why, cut=Cut.END, least=24, best=60, rank=3),
        Column("LABELS", lambda agent: " ".join(agent.labels), cut=Cut.MIDDLE, least=8, best=24, rank=4),
        Column("LOAD", _load, rank=4),
        Column("VERSION", lambda agent: agent.version, rank=5),
        Column("HOST", lambda agent: agent.host, cut=Cut.MIDDLE, least=8, best=20, rank=6),
        Column("UNSENT", lambda agent: size(agent.unsent_bytes) if agent.unsent_bytes else "", rank=7),
    )
    cells = [[clean(column.text(agent)) for column in columns] for agent in agents]
    places = fit(columns, cells, width - 1)
    titles = "  ".join(at_left(columns[n].title, wide) for n, wide in places)
    lines = [line(Span(f" {titles.rstrip()}", "bold"))]
    for agent, row in zip(agents, cells, strict=True):
        text = "  ".join(at_left(row[n], wide, middle=columns[n].cut is Cut.MIDDLE) for n, wide in places)
        style = "bad" if agent.is_away else "" if agent.state == "connected" else "warn"
        found = line(Span(f" {text}", style))
        lines.append(restyled(found, "current", width) if agent is here else found)
    return lines


def _places(agent: AgentRow) -> str:
    if agent.limit is None:
        return str(agent.runs or 0)
    return f"{bar((agent.runs or 0) / agent.limit, 8)} {agent.runs or 0} of {agent.limit}"


def _heard(agent: AgentRow, now: datetime) -> str:
    if agent.heard is None:
        return "now"
    seconds = (now - agent.heard).total_seconds()
    return "now" if seconds < 1 else f"{short_span(seconds)} ago"


def _load(agent: AgentRow) -> str:
    return "" if agent.load is None else f"{agent.load:.1f}/{agent.cpus or '?'}"
