"""The page of one flow: `/flows/NAME`, with `?project=` if flows of several projects have the name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import UUID

from sqlalchemy import select

from flowherd.states import SUCCESSFUL
from flowherd.story.usual import NEEDED
from flowherd.web.flow_drawings import Duration, StripRun, durations, strip
from flowherd.web.formats import counted, duration, size
from flowherd_server.pages.flow_facts import (
    clock_change,
    code_of,
    ended_since,
    facts_of,
    next_times,
    number_of_runs,
    peaks_of,
    schedule_parameters,
    versions_of,
)
from flowherd_server.pages.flow_rows import FlowRow, PastRun, flow_rows, kind_of_state
from flowherd_server.pages.flows import now_mark
from flowherd_server.pages.frame import Ask, NoSuchPage, Page
from flowherd_server.pages.run_form import run_form
from flowherd_server.store.microseconds import SECOND_US, to_datetime
from flowherd_server.store.tables import FLOW, PROJECT

if TYPE_CHECKING:
    from markupsafe import Markup

#: Spans of the plot of durations, days; 0 for all.
_SPANS = {"7": "7 d", "30": "30 d", "0": "All"}
_DEFAULT_SPAN = "30"
_DAY_S = 86_400
#: Number of runs in the table.
_LISTED = 10
#: Number of durations in the table below the plot.
_IN_TABLE = 100


def flow_page(ask: Ask) -> Page:
    """Return the page."""
    row = _found(ask)
    columns = [FLOW.c[name] for name in ("id", "description", "storage", "run_config", "settings")]
    flow = dict(ask.connection.execute(select(*columns).where(FLOW.c.id == row.id)).mappings().one())
    versions, more_versions = versions_of(ask.connection, row.group)
    peaks = peaks_of(ask.connection, [run.id for run in row.past])
    return Page(
        template="flow.html",
        title=row.name,
        values={
            "flow": row,
            "mark": now_mark(row),
            "sentence": _sentence(row, flow),
            "strip": _strip(row.past, ask.now_us),
            "strip_says": _counts(row.past),
            "runs": [{**_run(run), "peak": peaks.get(run.id)} for run in row.past[:_LISTED]],
            "number_of_runs": number_of_runs(ask.connection, row.group),
            "versions": versions,
            "more_versions": more_versions,
            "form": run_form(ask.core, ask.connection, row.id),
            "facts": facts_of(flow, _longest(row.past), size(max(peaks.values())) if peaks else ""),
            **_durations(ask, row),
            **_schedule(ask, row),
        },
        here="/flows",
        live=("runs", "flows"),
    )


def _found(ask: Ask) -> FlowRow:
    """Return the flow that the address names. Raises NoSuchPage."""
    name, project = ask.given["flow"], ask.query.get("project", "")
    wanted = [FLOW.c.name == name, *([PROJECT.c.name == project] if project else [])]
    rows = flow_rows(ask.core, ask.connection, ask.now_us, *wanted)
    if not rows and (same := _name_of(ask, name)):
        rows = flow_rows(ask.core, ask.connection, ask.now_us, FLOW.c.name == same)
    if not rows:
        gone = ask.connection.execute(select(FLOW.c.id).where(FLOW.c.name == name).limit(1)).first()
        why = "It was unregistered; its runs are still in the list of runs." if gone else "Look at the list of flows."
        raise NoSuchPage(f"No flow {name}{f' of project {project}' if project else ''} is registered. {why}")
    return max(rows, key=lambda row: row.created_us)


def _name_of(ask: Ask, flow_id: str) -> str | None:
    """Return the name of the flow with this id, of whichever version."""
    try:
        wanted = str(UUID(flow_id))
    except ValueError:
        return None
    name: str | None = ask.connection.execute(select(FLOW.c.name).where(FLOW.c.id == wanted)).scalar()
    return name


def _sentence(row: FlowRow, flow: Mapping[str, Any]) -> str:
    storage = flow["storage"] or {}
    kind = {"Command": "a command", "Python": "Python"}.get(str(storage.get("type")), "a flow of Prefect")
    described = " ".join((flow["description"] or "").split())
    stop = "" if not described or described.endswith((".", "!", "?")) else "."
    return f"{described}{stop} Version {row.version}, {kind}, project {row.project}: {code_of(storage)}".strip()


def _counts(runs: Sequence[PastRun]) -> str:
    kinds = [run.kind for run in runs]
    words = (("ok", "went well"), ("bad", "failed"), ("stop", "cancelled"), ("run", "running"), ("wait", "waiting"))
    return ", ".join(f"{kinds.count(kind)} {word}" for kind, word in words if kind in kinds)


def _took_s(run: PastRun, now_us: int) -> float:
    return run.took_s if run.took_s is not None else (now_us - run.start_us) / SECOND_US


def _strip(runs: Sequence[PastRun], now_us: int) -> Markup:
    drawn = []
    for run in reversed(runs):
        took_s = _took_s(run, now_us)
        drawn.append(StripRun(f"/runs/{run.id}", run.kind, f"{run.name}: {run.state}, {duration(took_s)}", took_s))
    return _html(strip(drawn))


def _run(run: PastRun) -> dict[str, object]:
    return {"run": run, "started": to_datetime(run.start_us), "took_s": run.took_s}


def _longest(runs: Sequence[PastRun]) -> str:
    took = [run.took_s for run in runs if run.took_s is not None]
    return duration(max(took)) if took else ""


def _durations(ask: Ask, row: FlowRow) -> dict[str, object]:
    span = ask.query.get("days", _DEFAULT_SPAN)
    span = span if span in _SPANS else _DEFAULT_SPAN
    now_s = ask.now_us / SECOND_US
    since_us = ask.now_us - int(span) * _DAY_S * SECOND_US if span != "0" else 0
    runs = ended_since(ask.connection, row.group, since_us)
    drawn = [Duration(start / SECOND_US, (end - start) / SECOND_US, kind_of_state(state)) for start, end, state in runs]
    good = [(end - start) / SECOND_US for start, end, state in runs if state in SUCCESSFUL]
    usual = median(good) if len(good) >= NEEDED else None
    begin = drawn[0].at - (now_s - drawn[0].at) / 50 if drawn else now_s
    first = max(since_us / SECOND_US, begin)
    said = _in_words(good, usual)
    label = f"{counted(len(drawn), 'run')}: {said}"
    page, query = row.address.partition("?")[0], {"project": row.project} if row.is_shared_name else {}
    return {
        "plot": _html(durations(drawn, first, now_s, label, _ticks(first, now_s), usual)) if len(drawn) > 1 else None,
        "durations_say": said,
        "spans": [
            (f"{page}?{urlencode({**query, 'days': days})}#durations", word, days == span)
            for days, word in _SPANS.items()
        ],
        "durations": [
            (to_datetime(start), state, kind_of_state(state), (end - start) / SECOND_US)
            for start, end, state in runs[-_IN_TABLE:]
        ],
        "usual_of_span_s": usual,
        "chart_unit": _unit([run.took_s for run in drawn]),
    }


def _unit(durations_s: Sequence[float]) -> tuple[str, int]:
    """Return the unit in which durations are drawn, and its length in seconds."""
    most = max(durations_s, default=0.0)
    return next((unit for unit in (("h", 3600), ("m", 60)) if most >= 2 * unit[1]), ("s", 1))


def _in_words(good_s: Sequence[float], usual: float | None) -> str:
    """Return the median of the durations of good runs, oldest first, and how they have changed."""
    if usual is None:
        return f"{counted(len(good_s), 'run')} went well; {NEEDED} are needed to tell what is usual"
    half = len(good_s) // 2
    before, after = median(good_s[:half] or good_s), median(good_s[half:])
    change = after - before
    if abs(change) < max(1.0, 0.1 * before):
        return f"median {duration(usual)} (dotted)"
    more = "longer" if change > 0 else "less"
    return f"median {duration(usual)} (dotted); the later half took {duration(abs(change))} {more}"


def _ticks(first: float, last: float) -> list[tuple[float, str]]:
    form = "%H:%M" if last - first < 2 * _DAY_S else "%-d %b"
    times = [first + (last - first) * n / 3 for n in range(4)]
    return [(at, datetime.fromtimestamp(at, timezone.utc).astimezone().strftime(form)) for at in times]


def _schedule(ask: Ask, row: FlowRow) -> dict[str, object]:
    if row.schedule is None:
        return {"times": [], "not_followed": "", "clock_note": "", "schedule_parameters": []}
    times, problem = next_times(row.schedule, ask.now_us)
    return {
        "times": times,
        "not_followed": problem,
        "clock_note": clock_change(row.schedule, ask.now),
        "schedule_parameters": schedule_parameters(row.schedule),
    }


def _html(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)
