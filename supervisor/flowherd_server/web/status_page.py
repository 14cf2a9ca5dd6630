"""The status page: agents and recent runs, for people, without any script."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from flowherd import __version__
from flowherd.states import ACTIVE, FINISHED, SUCCESSFUL, RunState
from flowherd_server.service import Service
from flowherd_server.store.tables import AGENT, FLOW, FLOW_RUN
from flowherd_server.store.times import SECOND_US, now_us, to_datetime

#: The page is text only; whatever a name or message holds, nothing of it is run.
CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_RUNS = 50
#: An agent that was not heard of for so long is not listed.
_AGENT_AGE_US = 24 * 3600 * SECOND_US


@cache
def _template() -> Template:
    return Template(files("flowherd_server").joinpath("templates/status.html").read_text(encoding="utf-8"))


def status_page(service: Service) -> str:
    """The page as HTML."""
    with service.database.reading() as connection:
        agents, runs = _agents(connection), _runs(connection)
    return _template().substitute(
        version=escape(__version__),
        now=_time(now_us()),
        agents=_rows((_agent_cells(agent, service) for agent in agents), "No agent was here in the last day."),
        runs=_rows((_run_cells(run) for run in runs), "No flow has been run yet."),
    )


def _agents(connection: Connection) -> list[RowMapping]:
    query = select(AGENT).where(AGENT.c.last_queried > now_us() - _AGENT_AGE_US)
    return list(connection.execute(query.order_by(AGENT.c.last_queried.desc()).limit(_RUNS)).mappings())


def _runs(connection: Connection) -> list[RowMapping]:
    columns = ("id", "name", "state", "state_message", "labels", "scheduled_start_time", "start_time", "end_time")
    query = select(*(FLOW_RUN.c[name] for name in columns), FLOW.c.name.label("flow_name"))
    query = query.join(FLOW, FLOW.c.id == FLOW_RUN.c.flow_id).order_by(FLOW_RUN.c.created.desc(), FLOW_RUN.c.seq.desc())
    return list(connection.execute(query.limit(_RUNS)).mappings())


def _agent_cells(agent: RowMapping, service: Service) -> list[str]:
    connected = service.board.is_connected(agent["id"])
    return [
        _text(agent["name"]),
        _text(agent["type"]),
        _text(", ".join(agent["labels"])),
        '<b class="good">connected</b>' if connected else "not connected",
        _time(agent["last_queried"]),
    ]


def _run_cells(run: RowMapping) -> list[str]:
    return [
        f'<span title="{escape(run["id"])}">{_text(run["name"])}</span>',
        _text(run["flow_name"]),
        f'<b class="{_class(RunState(run["state"]))}">{_text(run["state"])}</b>',
        _text(run["state_message"]),
        _text(", ".join(run["labels"])),
        _time(run["start_time"] or run["scheduled_start_time"]),
        _time(run["end_time"]),
    ]


def _class(state: RunState) -> str:
    if state in ACTIVE:
        return "active"
    if state in SUCCESSFUL:
        return "good"
    return "bad" if state in FINISHED else "waiting"


def _rows(rows: Iterable[list[str]], nothing: str) -> str:
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" for cells in rows]
    return "\n".join(lines) or f'<tr><td class="nothing">{escape(nothing)}</td></tr>'


def _text(value: Any) -> str:
    return escape(str(value or ""))


def _time(at_us: int | None) -> str:
    return "" if at_us is None else to_datetime(at_us).strftime("%Y-%m-%d %H:%M:%S")
