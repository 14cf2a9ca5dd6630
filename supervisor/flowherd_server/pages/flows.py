"""The list of flows: `/flows?q=TEXT&only=scheduled`, what failed or waits first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from flowherd.states import RunState
from flowherd.web.formats import counted
from flowherd.web.marks import LATE, STUCK, Mark, mark_of
from flowherd_server.pages.flow_rows import FlowRow, flow_rows, outcomes
from flowherd_server.pages.frame import Ask, Page
from flowherd_server.store.microseconds import SECOND_US, to_datetime

#: Maximum number of flows on the page.
_MOST = 300
#: Number of last runs that are drawn.
_DOTS = 20
#: A flow that has not run for this time is unused, days.
_UNUSED_DAYS = 30
ONLY_SCHEDULED, ONLY_UNUSED = "scheduled", "unused"


@dataclass(frozen=True)
class _Facet:
    """A filter that a click chooses."""

    word: str
    count: int
    address: str
    is_chosen: bool


def flows_page(ask: Ask) -> Page:
    """Return the page."""
    rows = flow_rows(ask.core, ask.connection, ask.now_us)
    text, only = ask.query.get("q", "").strip(), ask.query.get("only", "")
    matching = [row for row in rows if _matches(row, text)]
    kinds = {
        "": matching,
        ONLY_SCHEDULED: [row for row in matching if row.schedule is not None],
        ONLY_UNUSED: [row for row in matching if _is_unused(row, ask.now_us)],
    }
    found = kinds.get(only, matching)
    words = {"": "All", ONLY_SCHEDULED: "With a schedule", ONLY_UNUSED: f"Not run in {_UNUSED_DAYS} days"}
    facets = [
        _Facet(words[kind], len(kinds[kind]), _address(text, kind), kind == (only if only in kinds else ""))
        for kind in kinds
    ]
    return Page(
        template="flows.html",
        title=counted(len(rows), "flow"),
        values={
            "sentence": _sentence(rows),
            "rows": [{"flow": row, "mark": now_mark(row), **_shown(row, ask)} for row in found[:_MOST]],
            "more": len(found) - _MOST,
            "total": len(rows),
            "text": text,
            "only": only,
            "facets": facets,
        },
        here="/flows",
        live=("runs", "flows"),
    )


def now_mark(row: FlowRow) -> Mark | None:
    """Return how a flow stands: its trouble, what it does, or how its newest run ended; None if it has never run."""
    if row.stuck:
        return STUCK
    if row.is_bad and row.ended is not None:
        return mark_of(row.ended.state)
    if row.late:
        return LATE
    if row.running:
        going = next((run for run in row.past if run.kind == "run"), None)
        return mark_of(going.state if going is not None else RunState.SUBMITTED)
    return mark_of(row.past[0].state) if row.past else None


def _shown(row: FlowRow, ask: Ask) -> dict[str, object]:
    runs = row.past[:_DOTS]
    in_s = None if row.next_us is None else (row.next_us - ask.now_us) / SECOND_US
    return {
        "dots": [run.kind for run in reversed(runs)],
        "dots_label": outcomes(runs),
        "next": None if row.next_us is None else to_datetime(row.next_us),
        "next_in_s": in_s,
    }


def _sentence(rows: Sequence[FlowRow]) -> str:
    """Return how many are in trouble, or that none is."""
    failed, stuck, late = (
        (sum(map(bool, each)) for each in zip(*((r.is_bad, r.stuck, r.late) for r in rows), strict=True))
        if rows
        else (0, 0, 0)
    )
    parts = [f"the newest run of {failed} failed"] if failed else []
    parts += [f"{number} {word}" for number, word in ((stuck, "stuck"), (late, "late")) if number]
    if not parts:
        return "Nothing is in trouble." if rows else ""
    said = ", ".join(parts)
    return f"{said[0].upper()}{said[1:]}. These stand first."


def _matches(row: FlowRow, text: str) -> bool:
    """Return whether a flow meets all words: a part of its name, `label:` or `project:` with a part of one."""
    return all(_meets(row, word.casefold()) for word in text.split())


def _meets(row: FlowRow, word: str) -> bool:
    kind, colon, value = word.partition(":")
    if colon and kind == "label":
        return any(value in label.casefold() for label in row.labels)
    if colon and kind == "project":
        return value in row.project.casefold()
    return word in row.name.casefold()


def _is_unused(row: FlowRow, now_us: int) -> bool:
    return not row.past or row.past[0].start_us < now_us - _UNUSED_DAYS * 86_400 * SECOND_US


def _address(text: str, only: str) -> str:
    query = urlencode({name: value for name, value in (("q", text), ("only", only)) if value})
    return f"/flows?{query}" if query else "/flows"
