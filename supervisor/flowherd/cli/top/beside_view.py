"""The current run of the list: its log below the list, or story, processes, curves and log beside it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flowherd.cli.top.columns import SHORT_ID
from flowherd.cli.top.folding import wrapped
from flowherd.cli.top.log_pane import last_lines
from flowherd.cli.top.picture import RunRow
from flowherd.cli.top.run_view import figure_lines, figures_of, process_lines, story_lines
from flowherd.cli.top.sources import LogEntry, RunPage
from flowherd.cli.top.spans import Line, Span, clean, fitted, line, line_width
from flowherd.cli.top.state_marks import mark_of

#: Lines of the story and of the processes beside the list.
_MOST_EVENTS, _MOST_PROCESSES = 8, 8


def below(row: RunRow, entries: Sequence[LogEntry], width: int, height: int) -> list[Line]:
    """Return the end of a run's log under a line that names the run."""
    title = fitted(
        line(" ── ", Span(clean(row.flow), "bold"), f"  {clean(row.name)}  {row.id[:SHORT_ID]}  log "), width
    )
    rule = line(*title, Span("─" * (width - line_width(title)), "dim"))
    lines = last_lines(entries, width, height - 1)
    return [rule, *(lines or [line(Span(" There are no lines.", "dim"))])]


def beside(
    row: RunRow, page: RunPage | None, entries: Sequence[LogEntry], width: int, height: int, now: datetime
) -> list[Line]:
    """Return what is known of a run for a column beside the list."""
    sign, word, style = mark_of(row)
    names = f"  {clean(row.name)}" if row.name else ""
    lines: list[Line] = [line(Span(clean(row.flow), "bold"), names, f"  {row.id[:SHORT_ID]}")]
    sentence = clean(page.sentence) if page is not None else clean(row.stuck or row.says or row.state)
    lines += wrapped(line(Span(f"{sign} {word}", style), f"  {sentence}"), width)[:3]
    if row.figures is not None:
        lines += [(), *_flush(figure_lines(figures_of(row, page), width))]
    if page is not None:
        lines += [line(Span("What happened", "bold")), *_flush(story_lines(page.events[-_MOST_EVENTS:], width, now))]
        if page.processes:
            lines += [(), line(Span(f"Processes, {len(page.processes)}", "bold"))]
            lines += _flush(process_lines(page, width, _MOST_PROCESSES))
    room = height - len(lines) - 2
    if room > 2:
        lines += [(), line(Span("Log", "bold")), *_flush(last_lines(entries, width, room))]
    return lines[:height]


def _flush(lines: Sequence[Line]) -> list[Line]:
    """Return lines without the blank at their beginning."""
    return [(Span(one[0].text[1:], one[0].style), *one[1:]) if one and one[0].text[:1] == " " else one for one in lines]
