"""What `explain` and `doctor` show on a terminal: one screen, the most important first, between words."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flowherd.cli.doctor.finding import Finding, bad, ok, warn
from flowherd.cli.doctor.short_view import short_view as short_doctor
from flowherd.cli.explain.short_view import short_view as short_story
from flowherd.cli.tables.cells import width_of
from flowherd.cli.tables.fold import Screen, fold
from flowherd.story.timeline import StoryLine

NOW = datetime(2030, 1, 31, 8, tzinfo=timezone.utc)
SENTENCE = "the quick brown fox jumps over the lazy dog, "
SIZES = pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 50)])


def lines_of(screen: Screen, width: int, height: int) -> list[str]:
    """The lines, which leave room for the command line and the next prompt."""
    lines = list(screen.lines())
    assert len(lines) <= height - 2
    assert max(map(width_of, lines)) <= width
    return lines


def test_a_text_is_folded_between_words_and_only_a_wide_word_is_broken() -> None:
    assert fold("one two three", 7) == ["one two", "three"]
    assert fold("one two three", 9, label="- ") == ["- one two", "  three"]
    assert fold("one two three four", 7, most=2) == ["one two", "three…"]
    assert fold("a 0123456789 b", 5) == ["a", "01234", "56789", "b"]
    assert fold("日本 日本", 5) == ["日本", "日本"]
    assert fold("", 5) == [""]


def story(**given: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"waiting": [], "survivors": [], "damage": [], "leftovers": [], "log": []}
    known = {"id": "1c5b0dcf-5762-4664-8ae8-36c284be9d7b", "name": "spry-marmot", "flow": "mem", "state": "Failed"}
    return {**empty, **known, "verdict": None, "evidence": None, "reason": None, "grade": None, **given}


def entries(count: int) -> list[StoryLine]:
    return [
        StoryLine(at=NOW + timedelta(seconds=n), what="logged", rest=f"entry {n} {SENTENCE * 4}") for n in range(count)
    ]


@SIZES
def test_a_long_story_fits_and_begins_with_the_cause(width: int, height: int) -> None:
    said = story(
        name="n" * 200,
        flow="f" * 200,
        verdict={"sentence": SENTENCE * 100, "details": ["Proven: " + SENTENCE * 10]},
        reason="memory_limit",
        grade="proven",
        survivors=["sleep (1)"],
        damage=[SENTENCE * 5] * 20,
        leftovers=["zstd (2)"] * 50,
        log=[SENTENCE * 3],
    )
    screen = Screen(width, height)
    short_story(said, entries(60), NOW, screen)
    lines = lines_of(screen, width, height)
    assert "Failed" in " ".join(lines[:3]) and said["id"] in " ".join(lines[:3])
    assert "Reason: memory_limit, proven." in lines
    assert "entry 0 " in "\n".join(lines)
    assert "entry 59 " in lines[-2]
    assert "more entries" in lines[-1] and lines[-1].endswith("--all")


def test_what_is_short_is_shown_whole() -> None:
    what = [
        StoryLine(at=NOW, what="logged", rest="Memory is above 90 %"),
        StoryLine(at=NOW, what="ended", rest="as Failed", detail="memory_limit", grade="proven"),
    ]
    screen = Screen(80, 24)
    short_story(story(verdict={"sentence": "No room.", "details": []}, reason="memory_limit"), what, NOW, screen)
    text = "\n".join(lines_of(screen, 80, 24))
    assert "No room." in text and "as Failed; memory_limit; proven" in text
    assert "Memory is above" in text and "--all" not in text


def test_a_waiting_run_says_first_why_it_waits() -> None:
    screen = Screen(80, 24)
    short_story(
        story(state="Scheduled", verdict={"sentence": "No living agent has the label gpu.", "details": []}),
        entries(2),
        NOW,
        screen,
    )
    assert lines_of(screen, 80, 24)[1] == "No living agent has the label gpu."


@SIZES
@pytest.mark.parametrize("count", [0, 3, 40])
def test_findings_fit_and_what_is_bad_comes_first(width: int, height: int, count: int) -> None:
    findings: list[Finding] = [ok(f"well-{n}", SENTENCE) for n in range(17)]
    findings += [warn(f"doubtful-{n}", SENTENCE * 3, "do: " + SENTENCE * 3) for n in range(count)]
    findings.append(bad("worst", SENTENCE * 5, "do it"))
    screen = Screen(width, height)
    short_doctor(findings, screen)
    lines = lines_of(screen, width, height)
    assert lines[0].startswith("bad   worst: the quick")
    assert f"17 ok, {count} warnings, 1 bad" in lines[-1]
    text = " ".join(line.strip() for line in lines)
    assert all(f"well-{n}" in text for n in range(17))
    assert ("do: the quick" in text) == (count > 0)
    assert (" more, among them doubtful-" in text) == (count == 40)
