"""The list of runs: all in the one order, or those that a filter names; and the box that finds a run or a flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from sqlalchemy import ColumnElement, RowMapping, func, select
from starlette.responses import RedirectResponse, Response

from flowherd.states import TAKEN, WAITING, RunState
from flowherd.story.order import Group, Line
from flowherd.story.run_terms import Terms, read_terms, written
from flowherd.web import marks
from flowherd.web.formats import counted
from flowherd.web.marks import Mark, mark_of
from flowherd.web.policy import PAGE_HEADERS
from flowherd_server.pages.agent_views import ShownAgent
from flowherd_server.pages.frame import FIGURES, Ask, Page
from flowherd_server.pages.run_conditions import conditions
from flowherd_server.pages.run_rows import RunRow, rows_with_news, run_rows
from flowherd_server.runs.runs_in_order import Paging, line_of, runs_by, runs_in_order
from flowherd_server.store.run_counts import runs_by_state
from flowherd_server.store.tables import FLOW, FLOW_RUN

#: Runs on one page of a filtered list.
_PAGE = 100
#: Most names of flows, agents and labels to choose from.
_CHOICES = 200
#: Runs that are counted at most, to say how many there would be without a term.
_COUNTED = 1000
#: Characters of an id by which it is found.
_ID_PREFIX = 6
_HEADINGS = {
    Group.RUNNING: ("Running", "the longest first"),
    Group.DUE: ("Due, not taken", "the longest first"),
    Group.FAILED: ("Failed in the last 24 hours", "the newest first"),
    Group.NEXT: ("Next", "the soonest first, one a flow"),
    Group.ENDED: ("Ended", "the newest first"),
}
#: The filter by which the rest of a group is found.
_REST = {Group.DUE: "is:late", Group.FAILED: "state:failed", Group.NEXT: "state:waiting", Group.ENDED: "state:ended"}


@dataclass(frozen=True)
class Facet:
    """A filter that is one click away."""

    mark: Mark | None
    word: str
    query: str
    is_on: bool
    #: Number of runs; None where that is not counted.
    count: int | None


@dataclass(frozen=True)
class RunGroup:
    """A part of the list."""

    key: str
    heading: str
    order: str
    rows: Sequence[RunRow]
    lines: Sequence[Line[RowMapping]]
    #: Number of runs that are not shown, and the filter that shows them.
    hidden: int = 0
    rest: str = ""


def runs_page(ask: Ask) -> Page | Response:
    """Return the list. What was chosen beside the text of the filter becomes a part of it."""
    text = ask.query.get("q", "").strip()
    chosen = {name: value for name in ("flow", "agent", "label") if (value := ask.query.get(name, "").strip())}
    if chosen:
        return _see(read_terms(text, ask.now), chosen)
    terms = read_terms(text, ask.now)
    agents = ask.agents
    values: dict[str, Any] = {
        "text": text,
        "terms": terms,
        "choices": _choices(ask, agents),
        "facets": _facets(ask, terms),
        "older": "",
        "newer": "",
        "without": [],
    }
    if terms.terms:
        values |= _filtered(ask, terms, agents)
    else:
        values["groups"] = _all(ask, agents)
    values["headline"] = _found_headline(values) if terms.terms else _headline(ask)
    groups: list[RunGroup] = values["groups"]
    return Page(
        template="runs.html",
        title=f"Runs: {text}" if text else str(values["headline"]),
        values=values,
        here="/runs",
        live=("runs", "logs", FIGURES),
        refresh=rows_with_news([(f"g-{one.key}", one.lines, one.rows) for one in groups], agents, "runs_news.html"),
    )


def _headline(ask: Ask) -> str:
    """Return how many runs go on and wait, and how those of the last day ended."""
    states, day = runs_by_state(ask.connection), ask.core.day.of_last_day(ask.connection, ask.now_us)
    going, waiting = (sum(states.get(state.value, 0) for state in of) for of in (TAKEN, WAITING))
    if not any(states.values()):
        return "Nothing has run here yet."
    going_on = f"{counted(going, 'run')} in progress" if going else "Nothing is running"
    return f"{going_on}, {waiting:,} waiting, {day.badly:,} failed in the last 24 hours."


def _found_headline(values: Mapping[str, Any]) -> str:
    """Return how many runs the filter has found, as far as they stand on this page."""
    number = sum(len(group.rows) for group in values["groups"])
    if values["older"] or values["newer"]:
        return f"More than {counted(number, 'run')} like this."
    return f"{counted(number, 'run')} like this." if number else "No runs like this."


def find_page(ask: Ask) -> Page | Response:
    """Lead to the run whose id begins so, to the flow with this name, or to the runs with this text."""
    text = ask.query.get("q", "").strip()
    run_id = _run_with(ask, text.lower())
    if run_id is not None:
        return RedirectResponse(f"/runs/{run_id}", 303, PAGE_HEADERS)
    if ask.connection.execute(select(FLOW.c.id).where(FLOW.c.name == text).limit(1)).first():
        return RedirectResponse(f"/flows/{quote(text, safe='')}", 303, PAGE_HEADERS)
    return RedirectResponse(_address(text), 303, PAGE_HEADERS)


def _run_with(ask: Ask, prefix: str) -> str | None:
    """Return the id of the one run whose id begins so; None if there is none, or several."""
    if len(prefix) < _ID_PREFIX or not set(prefix) <= set("0123456789abcdef-"):
        return None
    query = select(FLOW_RUN.c.id).where(FLOW_RUN.c.id >= prefix, FLOW_RUN.c.id < prefix + "g").limit(2)
    found = ask.connection.execute(query).scalars().all()
    return found[0] if len(found) == 1 else None


def _see(terms: Terms, chosen: Mapping[str, str]) -> Response:
    """Lead to the list with what was chosen in place of what the filter has of it; `*` is any."""
    kept = terms.without(*(term for term in terms.terms if term.name in chosen))
    new = [written(name, value) for name, value in chosen.items() if value != "*"]
    return RedirectResponse(_address(" ".join(filter(None, [kept, *new]))), 303, PAGE_HEADERS)


def _address(text: str, **more: str) -> str:
    query = {**({"q": text} if text else {}), **more}
    return "/runs" + (f"?{urlencode(query)}" if query else "")


def _all(ask: Ask, agents: Sequence[ShownAgent]) -> list[RunGroup]:
    runs = runs_in_order(ask.connection)
    groups = []
    for group, (heading, order) in _HEADINGS.items():
        lines = [line for line in runs.lines if line.group is group]
        rows = run_rows(ask, lines, agents)
        groups.append(
            RunGroup(group.value, heading, order, rows, lines, runs.hidden.get(group, 0), _REST.get(group, ""))
        )
    return groups


def _filtered(ask: Ask, terms: Terms, agents: Sequence[ShownAgent]) -> dict[str, Any]:
    wanted = conditions(ask, terms)
    older, newer = (_seq_of(ask, ask.query.get(name, "")) for name in ("before", "after"))
    found = runs_by(ask.connection, wanted, Paging(_PAGE + 1, older, newer))
    has_more, runs = len(found) > _PAGE, found[1:] if newer is not None and len(found) > _PAGE else found[:_PAGE]
    lines = [line_of(run, ask.now_us) for run in runs]
    rows = run_rows(ask, lines, agents)
    text = terms.without()
    is_first = (newer is None and older is None) or (newer is not None and not has_more)
    return {
        "groups": [RunGroup("found", "", "", rows, lines)],
        "older": _address(text, before=runs[-1]["id"]) if runs and (has_more or newer is not None) else "",
        "newer": _address(text, after=runs[0]["id"]) if runs and not is_first else "",
        "without": [] if runs else _without(ask, terms),
    }


def _seq_of(ask: Ask, run_id: str) -> int | None:
    if not run_id:
        return None
    seq: int | None = ask.connection.execute(select(FLOW_RUN.c.seq).where(FLOW_RUN.c.id == run_id)).scalar()
    return seq


def _without(ask: Ask, terms: Terms) -> list[tuple[str, str, str]]:
    """Return, for each term, what would be found without it: the term, how many, and the address."""
    found = []
    for term in terms.terms[:8]:
        rest = terms.without(term)
        others = Terms([other for other in terms.terms if other is not term])
        number = _count(ask, conditions(ask, others))
        if number:
            shown = f"at least {counted(number, 'run')}" if number >= _COUNTED else counted(number, "run")
            found.append((term.text, shown, _address(rest)))
    return found


def _count(ask: Ask, wanted: Sequence[ColumnElement[bool]]) -> int:
    some = select(FLOW_RUN.c.seq).join(FLOW, FLOW.c.id == FLOW_RUN.c.flow_id).where(*wanted).limit(_COUNTED).subquery()
    return ask.connection.execute(select(func.count()).select_from(some)).scalar() or 0


def _choices(ask: Ask, agents: Sequence[ShownAgent]) -> dict[str, list[str]]:
    names = select(FLOW.c.name).where(FLOW.c.archived.is_(False)).distinct().order_by(FLOW.c.name).limit(_CHOICES)
    labels = sorted({label for agent in agents for label in agent.view.labels})
    return {
        "flow": list(ask.connection.execute(names).scalars()),
        "agent": sorted({agent.view.name for agent in agents if agent.view.name})[:_CHOICES],
        "label": labels[:_CHOICES],
    }


def _facets(ask: Ask, terms: Terms) -> list[Facet]:
    """Return the filters by state, with how many runs each has, as of the last 24 hours for those that have ended."""
    kept = [term for term in terms.terms if term.name not in ("state", "is")]
    others = " ".join(term.text for term in kept if term.name != "since")
    now = " ".join(term.text for term in terms.terms if term.name in ("state", "is"))
    states, day = runs_by_state(ask.connection), ask.core.day.of_last_day(ask.connection, ask.now_us)

    def number(of: frozenset[RunState]) -> int:
        return sum(states.get(state.value, 0) for state in of)

    # What else is asked for is not counted: that would be a look at all runs for each of them.
    wanted: list[tuple[Mark | None, str, str, int | None]] = [
        (None, "All", "", None),
        (mark_of("Running"), "Running", "state:running", number(TAKEN)),
        (marks.STUCK, "Stuck", "is:stuck", None),
        (marks.LATE, "Late", "is:late", None),
        (mark_of("Failed"), "Failed", "state:failed since:24h", day.badly),
        (mark_of("Cancelled"), "Cancelled", "state:cancelled since:24h", day.cancelled),
        (mark_of("Success"), "Success", "state:success since:24h", day.well),
        (mark_of("Scheduled"), "Waiting", "state:waiting", number(WAITING)),
    ]
    return [
        Facet(
            mark,
            word,
            _address(f"{text} {others}".strip()),
            now == text.removesuffix(" since:24h"),
            None if kept else count,
        )
        for mark, word, text, count in wanted
    ]
