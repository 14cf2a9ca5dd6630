"""The log on the page of a run, and the whole log as text."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection
from starlette.responses import Response, StreamingResponse

from flowherd.states import FINISHED
from flowherd.web.formats import counted, size
from flowherd.web.log_rows import LogMarks, rows_html, search_pattern
from flowherd.web.policy import PAGE_HEADERS
from flowherd_server.pages.frame import Ask, NewLines
from flowherd_server.pages.run_log import (
    FIRST,
    LEVELS_SHOWN,
    MOST_IN_PAGE,
    STREAMS_SHOWN,
    LogPart,
    LogView,
    lines_after,
    plain_lines,
    read_log_request,
    view_log,
)
from flowherd_server.pages.run_lookup import run_of
from flowherd_server.service import ServerCore
from flowherd_server.store.plain import find_row
from flowherd_server.store.tables import FLOW_RUN
from flowherd_server.web.lanes import Lanes, run_in

_LEVEL_WORDS = {"all": "All", "info": "Info", "warning": "Warnings", "error": "Errors"}
_STREAM_WORDS = {"": "All streams", "log": "logging"}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A level or a stream that can be chosen."""

    word: str
    value: str
    link: str
    is_chosen: bool
    #: Number of its lines; None if it is not said.
    count: int | None = None


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Lines that are not shown, and where a part of them, and all, are."""

    words: str
    more: str
    all: str


@dataclass(frozen=True, kw_only=True)
class LogSection:
    """What the template shows of the log."""

    view: LogView
    levels: Sequence[Choice]
    streams: Sequence[Choice]
    #: For each part the gap before it and the HTML of its rows.
    parts: Sequence[tuple[Gap | None, str]]
    so_far: str
    text: str
    download: str
    previous: str
    next: str
    #: What stands below the lines.
    state: str
    follows: bool


def log_part(ask: Ask, run: Mapping[str, Any], unsent_bytes: int) -> LogSection:
    """Return the log of a run as the address wants it. `unsent_bytes` is what its agent has not sent of all runs."""
    request = read_log_request(ask.query)
    view = view_log(ask.connection, run, request, with_rows=not ask.is_update)
    found = view.found
    marks = LogMarks(search_pattern(request.search), (found.line if found else request.line) or None)
    path = f"/runs/{run['id']}"

    def link(**changes: Any) -> str:
        query, line = urlencode(request.address(**changes)), changes.get("line")
        return f"{path}{'?' if query else ''}{query}#{f'L{line}' if line else 'log'}"

    is_finished = run["state"] in FINISHED
    return LogSection(
        view=view,
        levels=[
            Choice(
                word=word,
                value=level,
                link=link(level=level, line=0),
                is_chosen=level == request.level,
                count=view.counts[level] if LEVELS_SHOWN[level] >= LEVELS_SHOWN["warning"] else None,
            )
            for level, word in _LEVEL_WORDS.items()
        ],
        streams=[
            Choice(word=_STREAM_WORDS.get(name, name), value=name, link="", is_chosen=name == request.stream)
            for name in ("", *STREAMS_SHOWN)
        ],
        parts=[
            (_gap(view, place, link, f"{path}/log"), "".join(rows_html(part.rows, marks)))
            for place, part in enumerate(view.parts)
        ],
        so_far="".join(rows_html(view.so_far, marks)),
        text=f"{path}/log",
        download=f"{path}/log?download=1",
        previous=link(line=found.previous) if found and found.count else "",
        next=link(line=found.next) if found and found.count else "",
        state=_state(view, unsent_bytes, is_finished=is_finished),
        follows=not is_finished and not request.is_chosen,
    )


def new_lines(run_id: str, view: LogView) -> NewLines:
    """Return the lines of a run that come after those that a page shows."""

    def read(connection: Connection, after: int) -> tuple[str, int]:
        run = find_row(connection, FLOW_RUN, run_id)
        rows = [] if run is None else lines_after(connection, run, after)
        if not rows:
            return "", after
        missing = min(row.number for row in rows) - after - 1
        words = f'<p class="skip-row">{counted(missing, "line")} between are not shown</p>' if missing else ""
        return words + "".join(rows_html(rows, fold=False)), max(row.number for row in rows)

    return NewLines(view.last, read)


def _gap(view: LogView, place: int, link: Any, whole: str) -> Gap | None:
    part: LogPart = view.parts[place]
    if not part.hidden:
        return None
    lines = counted(part.hidden, "line")
    if view.request.is_chosen:
        return Gap(words=f"{lines} before these are not shown", more="", all=whole)
    everything = link(first=view.lines, line=0) if view.lines <= MOST_IN_PAGE else whole
    before = view.parts[place - 1].rows[-1].number
    is_first = place == 1 and before == view.request.first
    more = link(first=view.request.first + FIRST) if is_first else link(line=before + 1)
    return Gap(words=f"{lines} between are not shown", more=more, all=everything)


def _state(view: LogView, unsent_bytes: int, *, is_finished: bool) -> str:
    # The log comes before the end, so what is missing is of other runs.
    if unsent_bytes and not is_finished:
        return f"Its agent has {size(unsent_bytes)} of output that the server does not have yet."
    if not is_finished:
        return "New lines appear here." if view.lines else "It has written nothing yet."
    return f"The end: line {view.lines:,}. All of it is at the server." if view.lines else "It has written nothing."


def log_text(ask: Ask) -> Response:
    """Return the whole log of the run that the path names as text, in pieces as the reader takes them."""
    run = run_of(ask)
    headers = dict(PAGE_HEADERS)
    if "download" in ask.query:
        name = re.sub(r"[^A-Za-z0-9._-]", "-", run["name"])[:80]
        headers["Content-Disposition"] = f'attachment; filename="{name}-{run["id"][:8]}.log"'
    pieces = _pieces(ask.core, ask.lanes, run["id"])
    return StreamingResponse(pieces, headers=headers, media_type="text/plain; charset=utf-8")


async def _pieces(core: ServerCore, lanes: Lanes, run_id: str) -> AsyncIterator[bytes]:
    after = 0
    while not core.stopping:
        text, after = await run_in(lanes.questions, _read, core, run_id, after)
        if not after:
            return
        yield text.encode()


def _read(core: ServerCore, run_id: str, after: int) -> tuple[str, int]:
    """Read one piece in a transaction of its own, so that a slow reader holds none."""
    with core.database.reading() as connection:
        run = find_row(connection, FLOW_RUN, run_id)
        return ("", 0) if run is None else plain_lines(connection, run["seq"], after)
