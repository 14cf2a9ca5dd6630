"""What the agent's pages say: of the agent and its host, and of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from flowherd.agent.control import Control
from flowherd.agent.health import Health
from flowherd.agent.run_records import KnownRun, RunRecords
from flowherd.agent.run_verdict import stuck_here, verdict_here
from flowherd.host_figures import HostFigures
from flowherd.states import FINISHED
from flowherd.story.agent_report import AgentReport
from flowherd.web import marks
from flowherd.web.curve import CurvePoint, draw_curve
from flowherd.web.formats import counted, size
from flowherd.web.log_rows import LogRow, rows_html
from flowherd.web.marks import Mark, mark_of
from flowherd.web.process_rows import cpu_time, process_rows
from flowherd.web.shown_values import shown_value

if TYPE_CHECKING:
    from markupsafe import Markup

#: How much of a journal the page reads from its beginning and from its end, bytes, and how many lines it shows of each.
_FIRST_BYTES, _LAST_BYTES = 256 * 1024, 1024 * 1024
_FIRST_LINES, _LAST_LINES = 200, 1000
#: Longer lines are cut.
_MAX_CHARS = 4000


def host_values(
    name: str, health: Health, control: Control, report: AgentReport, records: RunRecords
) -> dict[str, Any]:
    """Return what the page of the host shows."""
    now = datetime.now(timezone.utc)
    living, ended = records.living(), records.ended()
    headline = f"{counted(len(living), 'run')} in progress on {report.host or name}."
    pause = health.claim_pause
    problems = [text for text in (health.reason, pause.reason if pause else "") if text]
    return {
        "headline": headline,
        "name": name,
        "mark": _mark_of_agent(health),
        "problems": problems,
        "is_well": health.well,
        "paused": control.paused,
        "stopping": control.shutdown_request is not None,
        "report": report,
        "host": report.host_figures,
        "memory_share": _memory_share(report.host_figures),
        "unsent": "not known" if report.unsent_bytes is None else size(report.unsent_bytes),
        "living": [_row(run, now) for run in living],
        "ended": [_row(run, now) for run in ended],
    }


def _mark_of_agent(health: Health) -> Mark:
    if not health.well:
        return Mark("bad", marks.AWAY.glyph, "No contact")
    if health.claim_pause is None:
        return marks.CONNECTED
    word = health.claim_pause.word
    known = {"paused": marks.PAUSED, "draining": marks.DRAINING}
    return known.get(word) or Mark("wait", marks.PAUSED.glyph, word.capitalize())


def _memory_share(host: HostFigures | None) -> float | None:
    if host is None or not host.memory_total_bytes or host.memory_available_bytes is None:
        return None
    return 1 - host.memory_available_bytes / host.memory_total_bytes


def _row(run: KnownRun, now: datetime) -> dict[str, Any]:
    figures = run.figures
    stuck = stuck_here(run, now)
    until = now if figures is not None else run.ended_at
    took_s = (until - run.started_at).total_seconds() if until is not None and run.started_at is not None else None
    return {
        "run": run,
        "mark": mark_of(run.state, stuck=bool(stuck)),
        "says": stuck or run.message or run.evidence,
        "took_s": took_s,
        "figures": figures,
    }


def run_values(run: KnownRun, records: RunRecords) -> dict[str, Any]:
    """Return what the page of a run shows."""
    now = datetime.now(timezone.utc)
    account = run.account
    limit = account.memory_limit_bytes if account is not None else None
    if run.figures is not None:
        limit = run.figures.memory_limit_bytes
    samples = run.samples
    points = [
        CurvePoint(one.at, one.memory_bytes, None if one.cpu_share is None else one.cpu_share * 100) for one in samples
    ]
    curve = draw_curve(points, limit)
    tree = run.figures.tree if run.figures is not None else account.processes if account is not None else ()
    return {
        **_row(run, now),
        "verdict": verdict_here(run, now),
        "is_finished": run.state in FINISHED,
        "facts": list(_facts(run)),
        "history": records.history(run.id),
        "curve": None if curve is None else _html(curve.svg),
        "processes": process_rows(tree),
        "cpu_time": cpu_time,
        "parameters": [(name, shown_value(name, value)[0]) for name, value in run.parameters.items()],
        **_log(run, records),
    }


def _facts(run: KnownRun) -> Sequence[tuple[str, str]]:
    figures, account = run.figures, run.account
    found: list[tuple[str, str]] = []
    peak = (
        figures.peak_memory_bytes if figures is not None else account.peak_memory_bytes if account is not None else None
    )
    if peak:
        found.append(("Peak memory", size(peak)))
    used_s = figures.cpu_time_s if figures is not None else account.cpu_time_s if account is not None else None
    if used_s is not None:
        found.append(("CPU time", cpu_time(used_s)))
    if figures is not None and figures.processes:
        found.append(("Processes", str(figures.processes)))
    if account is not None and account.exit_code is not None:
        found.append(("Exit code", str(account.exit_code)))
    if account is not None and account.signal is not None:
        found.append(("Signal", str(account.signal)))
    return found


def _log(run: KnownRun, records: RunRecords) -> Mapping[str, Any]:
    """Return the first and the last lines of the journal, of a short one all."""
    first = records.journal(run.id, 0, _FIRST_BYTES)
    if first is None:
        return {"log": None}
    rows = [_log_row(n, line) for n, line in enumerate(first.lines, 1)]
    if first.end >= first.size:
        shown, cut = rows, len(rows) > _FIRST_LINES + _LAST_LINES
        head, tail = (shown[:_FIRST_LINES], shown[-_LAST_LINES:]) if cut else (shown, [])
        hidden = f"{len(shown) - len(head) - len(tail):,} lines are not shown" if cut else ""
    else:
        last = records.journal(run.id, -_LAST_BYTES, _LAST_BYTES)
        head, hidden = rows[:_FIRST_LINES], "More lines are not shown"
        # Without numbers: nothing has counted those before.
        tail = [_log_row(0, line) for line in last.lines[-_LAST_LINES:]] if last is not None else []
    return {
        "log": _html("".join(rows_html(head))),
        "log_tail": _html("".join(rows_html(tail))),
        "log_hidden": hidden,
        "log_size": first.size,
    }


def _log_row(number: int, line: Any) -> LogRow:
    source = line.logger if line.stream == "log" else "flowherd" if line.stream == "notice" else line.stream
    return LogRow(
        number, line.at, source, line.level, line.message[:_MAX_CHARS], max(0, len(line.message) - _MAX_CHARS)
    )


def _html(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)
