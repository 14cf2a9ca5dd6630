"""A run's story on one screen: first why it is as it is, then what happened, in lines that are cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from flowherd.cli.explain.explanation import TimelineEntry, shown_time
from flowherd.cli.tables.cells import cut_middle
from flowherd.cli.tables.fold import Screen
from flowherd.cli.tables.styles import state_style

#: Number of lines that a sentence may take.
_VERDICT_LINES, _WAITING_LINES, _FACT_LINES = 5, 3, 2
#: Number of sentences of one kind.
_MOST = 4
#: Number of lines that are kept for what happened.
_LEAST_LEFT = 10
#: Characters of the headline that are not the names.
_HEADLINE = 70


def short_view(story: dict[str, Any], entries: Sequence[TimelineEntry], now: datetime, screen: Screen) -> None:
    """Put the story on the screen: as much of it as fits, the most important first."""
    names = max(12, screen.width - _HEADLINE // 2)
    run, flow = (cut_middle(str(story[name]), names) for name in ("name", "flow"))
    state = story["state"] or "state not known"
    screen.add(f"{run} ({story['id']}), a run of {flow}: {state}", style=state_style(state), most=3)
    for sentence in _verdict(story):
        screen.add(sentence, most=_VERDICT_LINES)
    _add(screen, story["waiting"], _WAITING_LINES)
    _add(screen, _listed("still running, could not be ended: ", story["survivors"]), _FACT_LINES, style="bad")
    _add(screen, [f"damaged: {problem}" for problem in story["damage"]], _FACT_LINES)
    _add(screen, _listed("left running and ended: ", story["leftovers"]), _FACT_LINES)
    _add(screen, [f"log: {'; '.join(story['log'])}."] if story["log"] else [], _FACT_LINES)
    hidden = _add_timeline(screen, _without_repeated(entries, story), now)
    if screen.is_cut or hidden:
        more = f"{hidden} more entries, and " if hidden else ""
        screen.add_line(f"… {more}whole sentences: --all", style="dim")


def _verdict(story: dict[str, Any]) -> list[str]:
    """Return why the run has ended as it has: the evidence, which has the message in it as a rule."""
    message, evidence = story["message"] or "", story["evidence"] or ""
    if story["reason"] is None and not evidence:
        return []
    end = f"Reason: {story['reason']}, {story['grade'] or 'not graded'}." if story["reason"] else ""
    said = [text for text in (message if message not in evidence else "", evidence) if text]
    return [*said, *([end] if end else [])]


def _listed(beginning: str, names: Sequence[str]) -> list[str]:
    return [f"{beginning}{', '.join(names)}."] if names else []


def _add(screen: Screen, sentences: Sequence[str], lines: int, style: str = "") -> None:
    """Add sentences of one kind, as far as they leave room for what happened."""
    for number, sentence in enumerate(sentences):
        if number == _MOST or screen.left < _LEAST_LEFT:
            screen.is_cut = True
            return
        screen.add(sentence, style=style, most=lines)


def _without_repeated(entries: Sequence[TimelineEntry], story: dict[str, Any]) -> list[TimelineEntry]:
    """Return the entries without lines of the log that say what a state says, or what stands above as the evidence."""
    said = [text for entry in entries if entry.source == "backend" for text in _texts(entry.detail)]
    said += [story["evidence"]] if story["evidence"] else []
    return [entry for entry in entries if entry.source != "log" or not entry.detail.startswith(tuple(said))]


def _texts(detail: str) -> Iterable[str]:
    """Return the state with its message, and the message alone."""
    text = detail.partition("; ")[0]
    return [one for one in (text, text.partition(": ")[2]) if one]


def _add_timeline(screen: Screen, entries: Sequence[TimelineEntry], now: datetime) -> int:
    """Add the first entry and the last ones, as many as fit; return how many are not shown."""
    room = max(3, screen.left - 3)
    shown = entries if len(entries) <= room else [entries[0], *entries[len(entries) - room + 1 :]]
    screen.add_line("")
    times = [shown_time(entry, now) for entry in shown]
    time_width, what_width = max(map(len, [*times, ""])), max([len(entry.what) for entry in shown] or [0])
    for number, (time, entry) in enumerate(zip(times, shown, strict=True)):
        if number == 1 and len(shown) < len(entries):
            screen.add_line("…", style="dim")
        screen.add_line(f"{time:{time_width}}  {entry.what:{what_width}}  {entry.detail}")
    return len(entries) - len(shown)
