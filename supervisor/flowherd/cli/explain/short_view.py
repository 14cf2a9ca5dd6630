"""A run's story on one screen: first why it is as it is, then what happened, in lines that are cut."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from flowherd.cli.explain.shown import shown_time
from flowherd.cli.tables.cells import cut_middle
from flowherd.cli.tables.fold import Screen
from flowherd.cli.tables.styles import state_style
from flowherd.story.timeline import StoryLine

#: Number of lines that a sentence may take.
_VERDICT_LINES, _WAITING_LINES, _FACT_LINES = 5, 3, 2
#: Number of sentences of one kind.
_MOST = 4
#: Number of lines that are kept for what happened.
_LEAST_LEFT = 10
#: Style of a line of what happened, by its tone; most have none.
_STYLES = {"bad": "bad", "warn": "warn"}
#: Characters of the headline that are not the names.
_HEADLINE = 70


def short_view(story: dict[str, Any], entries: Sequence[StoryLine], now: datetime, screen: Screen) -> None:
    """Put the story on the screen: as much of it as fits, the most important first."""
    names = max(12, screen.width - _HEADLINE // 2)
    run, flow = (cut_middle(str(story[name]), names) for name in ("name", "flow"))
    state = story["state"] or "state not known"
    screen.add(f"{run} ({story['id']}), a run of {flow}: {state}", style=state_style(state), most=3)
    verdict, *details = verdict_sentences(story) or [""]
    if verdict:
        screen.add(verdict, most=_VERDICT_LINES)
    _add(screen, details, _VERDICT_LINES if story["reason"] else _WAITING_LINES)
    _add(screen, _listed("still running, could not be ended: ", story["survivors"]), _FACT_LINES, style="bad")
    _add(screen, [f"damaged: {problem}" for problem in story["damage"]], _FACT_LINES)
    _add(screen, [f"log: {'; '.join(story['log'])}."] if story["log"] else [], _FACT_LINES)
    hidden = _add_story(screen, entries, now)
    if screen.is_cut or hidden:
        more = f"{hidden} more entries, and " if hidden else ""
        screen.add_line(f"… {more}whole sentences: --all", style="dim")


def verdict_sentences(story: dict[str, Any]) -> list[str]:
    """Return the verdict and what it rests on; what the directory says of the end if that is all there is."""
    found = story["verdict"]
    end = [f"Reason: {story['reason']}, {story['grade'] or 'not graded'}."] if story["reason"] else []
    if found is None:
        return [*([story["evidence"]] if story["evidence"] else []), *end]
    return [found["sentence"], *end, *found["details"]]


def _listed(beginning: str, names: Sequence[str]) -> list[str]:
    return [f"{beginning}{', '.join(names)}."] if names else []


def _add(screen: Screen, sentences: Sequence[str], lines: int, style: str = "") -> None:
    """Add sentences of one kind, as far as they leave room for what happened."""
    for number, sentence in enumerate(sentences):
        if number == _MOST or screen.left < _LEAST_LEFT:
            screen.is_cut = True
            return
        screen.add(sentence, style=style, most=lines)


def _add_story(screen: Screen, lines: Sequence[StoryLine], now: datetime) -> int:
    """Add the first line and the last ones, as many as fit; return how many are not shown."""
    room = max(3, screen.left - 3)
    shown = lines if len(lines) <= room else [lines[0], *lines[len(lines) - room + 1 :]]
    screen.add_line("")
    times = [shown_time(line.at, now) for line in shown]
    time_width, what_width = max(map(len, [*times, ""])), max([len(line.what) for line in shown] or [0])
    for number, (time, line) in enumerate(zip(times, shown, strict=True)):
        if number == 1 and len(shown) < len(lines):
            screen.add_line("…", style="dim")
        said = "; ".join(part for part in (line.rest, line.detail, line.grade) if part)
        screen.add_line(f"{time:{time_width}}  {line.what:{what_width}}  {said}", style=_STYLES.get(str(line.tone), ""))
    return len(lines) - len(shown)
