"""The status page: agents and runs as plain HTML, without scripts. What runs comes first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from flowherd import __version__
from flowherd.shown_text import one_line
from flowherd.states import ACTIVE, FINISHED, SUCCESSFUL, RunState
from flowherd.story.agent_report import AgentReport, read_agent_report
from flowherd.story.order import Group, Line
from flowherd_server.runs.runs_in_order import runs_in_order
from flowherd_server.service import ServerCore
from flowherd_server.store.microseconds import SECOND_US, now_us, to_datetime
from flowherd_server.store.tables import AGENT, TEXT_SO_FAR

#: Nothing is loaded or run, even if a name or message contains markup, and no page shows it in a frame.
CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; form-action 'none'"
#: Maximum number of agents.
_MAX_ROWS = 50
#: The end of a longer unfinished line is shown.
_MAX_TEXT_CHARS = 200
#: Of longer names the beginning and the end are shown, this many characters; the rest is in the title.
_NAME_CHARS = 14, 10
#: Agents without a request for this time are not listed.
_AGENT_AGE_US = 24 * 3600 * SECOND_US


@cache
def _template() -> Template:
    return Template(files("flowherd_server.web").joinpath("templates/status.html").read_text(encoding="utf-8"))


def status_page(core: ServerCore) -> str:
    """Return the page as HTML."""
    core.contacts.store()
    with core.database.reading() as connection:
        agents, runs = _agents(connection), runs_in_order(connection)
        going = [line.run["id"] for line in runs.lines if line.group is Group.RUNNING]
        texts = _texts_so_far(connection, going)
    return _template().substitute(
        version=escape(__version__),
        now=_time(now_us()),
        agents=_rows((_agent_cells(agent, core) for agent in agents), "No agent has been connected in the last day."),
        runs=_rows((_run_cells(line, texts) for line in runs.lines), "There are no flow runs yet."),
        more=escape(_more(runs.hidden)),
    )


def _agents(connection: Connection) -> list[RowMapping]:
    query = select(AGENT).where(AGENT.c.last_queried > now_us() - _AGENT_AGE_US)
    return list(connection.execute(query.order_by(AGENT.c.last_queried.desc()).limit(_MAX_ROWS)).mappings())


def _texts_so_far(connection: Connection, run_ids: Sequence[str]) -> dict[str, str]:
    """Return what these runs have written of unfinished lines, such as progress bars, by run id."""
    query = select(TEXT_SO_FAR.c.flow_run_id, TEXT_SO_FAR.c.message).where(TEXT_SO_FAR.c.flow_run_id.in_(run_ids))
    rows = connection.execute(query.order_by(TEXT_SO_FAR.c.timestamp)).mappings()
    return {row["flow_run_id"]: row["message"][-_MAX_TEXT_CHARS:] for row in rows}


def _agent_cells(agent: RowMapping, core: ServerCore) -> list[str]:
    connected = core.board.is_connected(agent["id"])
    return [
        _name(agent["name"]),
        _text(agent["type"]),
        _labels(agent["labels"]),
        _connection(read_agent_report(agent["report"])) if connected else "not connected",
        _time(agent["last_queried"]),
    ]


def _run_cells(line: Line[RowMapping], texts: Mapping[str, str]) -> list[str]:
    run = line.run
    so_far, state = texts.get(run["id"]), RunState(run["state"])
    word = "Late" if line.group is Group.DUE else state.value
    if line.group is Group.FAILED and line.count > 1:
        word += f" \N{MULTIPLICATION SIGN}{line.count}"
    return [
        _name(run["name"], run["id"]),
        _name(run["flow_name"]),
        f'<b class="{"bad" if line.group is Group.DUE else _class(state)}">{_text(word)}</b>',
        _text(run["state_message"]) + (f"<br><code>{_text(so_far)}</code>" if so_far else ""),
        _labels(run["labels"]),
        _time(run["start_time"] or run["scheduled_start_time"]),
        _time(run["end_time"]),
    ]


def _more(hidden: Mapping[Group, int]) -> str:
    """Return how many runs are not on the page; empty if all are."""
    words = {Group.DUE: "due", Group.FAILED: "failed lately", Group.NEXT: "scheduled", Group.ENDED: "ended"}
    parts = [f"{hidden[group]:,} more {word}" for group, word in words.items() if group in hidden]
    return f"{', '.join(parts)}: flowherd ps --all" if parts else ""


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
    return escape(one_line(str(value or "")))


def _name(value: Any, more: str = "") -> str:
    """Return a name that is cut in the middle, with the whole of it and `more` where the mouse points at it."""
    whole = one_line(str(value or ""))
    first, last = _NAME_CHARS
    shown = whole if len(whole) <= first + last + 1 else f"{whole[:first]}\N{HORIZONTAL ELLIPSIS}{whole[-last:]}"
    title = " ".join(part for part in ("" if shown == whole else whole, more) if part)
    return f'<span title="{escape(title)}">{escape(shown)}</span>' if title else escape(shown)


def _labels(labels: Iterable[str]) -> str:
    return ", ".join(map(_name, labels))


def _connection(report: AgentReport | None) -> str:
    if report is None or not report.hold:
        return '<b class="good">connected</b>'
    return f'<b class="waiting">{_text(report.hold)}</b><br>{_text(report.hold_reason)}'


def _time(at_us: int | None) -> str:
    return "" if at_us is None else to_datetime(at_us).strftime("%Y-%m-%d %H:%M:%S")
