"""What `flowherd top` draws, from values and a size: kept screens, and what holds at every size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from flowherd.cli.top import agents_view, beside_view, dialogs, log_pane, run_view
from flowherd.cli.top.agents_view import AgentsState
from flowherd.cli.top.attention import matters
from flowherd.cli.top.list_view import Drawn, ListState, draw
from flowherd.cli.top.log_pane import LogPane
from flowherd.cli.top.picture import AgentRow, Picture, RunRow
from flowherd.cli.top.run_view import RunState
from flowherd.cli.top.sources import Event, LogEntry, ProcessLine, RunPage
from flowherd.cli.top.spans import Line, line_width, plain
from flowherd.story.order import Group
from tests.support.top_pictures import NOW, check, ended, in_utc, night, running

LOG = [
    LogEntry(at=NOW - timedelta(seconds=90), tag="INFO", level=20, message="train: epoch 30/40  loss 0.0431"),
    LogEntry(at=NOW - timedelta(seconds=60), tag="stdout", level=20, message="saved \x1b[32mcheckpoints/30.bin\x1b[0m"),
    LogEntry(at=NOW - timedelta(seconds=30), tag="WARNING", level=30, message="loader: worker 3 was 1.8 s late"),
    LogEntry(
        at=NOW, tag="stderr", level=40, message="Traceback (most recent call last):\n  File \"x.py\"\nKeyError: 'a'"
    ),
]
PAGE = RunPage(
    sentence="Memory limit exceeded: 2.3 GiB in 4 processes, the limit is 2.0 GiB",
    grade="proven",
    style="bad",
    details=["1 process was left running and was ended: zstd (30467)."],
    events=[
        Event(at=NOW - timedelta(hours=12), what="created", detail="labels: barn-01"),
        Event(at=NOW - timedelta(minutes=42), what="asked to end", detail="memory limit: 2.3 GiB", style="bad"),
        Event(at=NOW - timedelta(minutes=41), what="ended", detail="killed by SIGKILL (9); proven", style="bad"),
    ],
    processes=[
        ProcessLine(pid=88120, depth=0, command="python train.py", cpu_time_s=3725.0, memory_bytes=7 << 30),
        ProcessLine(pid=88151, depth=1, command="loader 1", cpu_time_s=812.0, memory_bytes=540 << 20),
        ProcessLine(pid=88160, depth=2, command="sh -c pigz", cpu_time_s=0.3, memory_bytes=2 << 20),
    ],
    parameters={"target": "s3://backups", "password": "(not shown)"},
    facts={"labels": "barn-01"},
)


@pytest.fixture(autouse=True)
def _utc() -> Iterator[None]:
    with in_utc():
        yield


def drawn(picture: Picture, width: int, height: int, **state: object) -> Drawn:
    given = ListState(**state)  # type: ignore[arg-type]
    row = picture.row(given.current)
    current: list[Line] = []
    if row is not None and width >= 160:
        current = beside_view.beside(row, PAGE, LOG, 68, height, NOW)
    elif row is not None:
        current = beside_view.below(row, LOG, width, 9)
    return draw(picture, given, width, height, NOW, current)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 50), (48, 10)])
def test_the_screen_of_a_night_is_the_kept_one(width: int, height: int) -> None:
    current = night().rows[1].id
    check(f"list-{width}x{height}", drawn(night(), width, height, current=current, marked=frozenset({current})).lines)


@pytest.mark.parametrize("tab", range(4), ids=run_view.TABS)
def test_the_screen_of_a_run_is_the_kept_one(tab: int) -> None:
    pane = LogPane()
    pane.add(LOG)
    failed = night().rows[7]
    check(f"run-{tab + 1}-80x24", run_view.draw(failed, PAGE, RunState(tab=tab, pane=pane), 80, 24, NOW))


def test_the_screen_of_the_agents_and_a_question_over_it_are_the_kept_ones() -> None:
    lines = agents_view.draw(night().agents, AgentsState(current="edge-07"), 100, 12, NOW)
    check("agents-100x12", lines)
    question = dialogs.cancel_question(night().rows[:2], NOW)
    check("question-100x12", dialogs.over(lines, dialogs.question_lines(question, 100), 100, 12))


HOSTILE = [
    running("f" * 200, "name \x1b[2J\u202e", "aaaaaaaa", 5, (1, 2, 3, 4), last_line="\x1b]0;title\x07 \u5bbd" * 300),
    ended(
        "流れ" * 30, "مرحبا", "bbbbbbbb", timedelta(hours=1), 3, state="ValidationFailed", group=Group.FAILED, says=""
    ),
    ended("x", "", "cccccccc", timedelta(days=3), 3e6, state="Success", group=Group.ENDED, says="a\nb\r\nc" * 700),
]


@pytest.mark.parametrize("width", [20, 37, 59, 60, 79, 80, 104, 130, 160, 201])
def test_no_line_is_wider_than_the_screen_and_none_is_missing(width: int) -> None:
    for height in (1, 3, 11, 12, 24, 30, 36, 60):
        for picture in (night(), night(rows=HOSTILE), night(rows=(), agents=(), host=None, hidden={})):
            current = picture.rows[0].id if picture.rows else None
            lines = drawn(picture, width, height, current=current).lines
            assert len(lines) <= height
            assert max(map(line_width, lines), default=0) <= width
            assert "\x1b" not in "".join(map(plain, lines))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 200])
def test_state_flow_id_elapsed_and_memory_are_never_lost(width: int) -> None:
    lines = map(plain, draw(night(), ListState(), width, 24, NOW).lines)
    text = next(one for one in lines if "7f3c1a2e" in one)
    assert all(part in text for part in ("●", "model", "7f3c1a2e", "2h14m", "11.2G")), text


def test_the_current_row_stays_when_others_come_before_it_and_when_the_screen_is_low() -> None:
    rows = [running("flow", f"n{n}", f"{n:08x}", 1000 - n, (1, 2, 3, 4)) for n in range(100)]
    low = drawn(night(rows=rows), 80, 24, current=rows[50].id)
    assert rows[50].id in low.runs.values()
    more = [running("new", "new", f"ff{n:06x}", 5000, (1, 2, 3, 4)) for n in range(30)]
    again = drawn(night(rows=[*more, *rows]), 80, 15, current=low.current, top=low.top)
    assert again.current == rows[50].id
    assert rows[50].id in again.runs.values()


def test_a_row_that_has_gone_leaves_the_current_place() -> None:
    rows = list(night().rows)
    left = drawn(night(rows=[row for row in rows if row != rows[2]]), 80, 24, current=rows[2].id, place=2)
    assert left.current == rows[3].id


def test_without_colours_the_current_row_has_a_sign() -> None:
    current = night().rows[3]
    lines = [plain(one) for one in draw(night(), ListState(current=current.id, coloured=False), 80, 24, NOW).lines]
    assert [one for one in lines if one.startswith(">")] == [one for one in lines if current.id[:8] in one]


def test_a_failure_that_a_good_end_has_cleared_needs_no_attention() -> None:
    failed = ended("flow", "a", "aaaaaaaa", timedelta(hours=2), 1, state="Failed", group=Group.FAILED)
    good = ended("flow", "b", "bbbbbbbb", timedelta(hours=1), 1, state="Success", group=Group.ENDED)
    assert night(rows=[failed]).in_trouble() == [failed]
    assert night(rows=[failed, good]).in_trouble() == []
    assert night(rows=[replace(failed, ended=NOW), good]).in_trouble() == [replace(failed, ended=NOW)]


def test_a_full_disk_and_much_unsent_output_of_an_agent_need_attention() -> None:
    full = AgentRow(
        name="builder",
        state="connected",
        low_disks=[("/srv/state", 4096)],
        unsent_bytes=9 << 20,
        unsent_most_bytes=10 << 20,
    )
    away = replace(full, state="away")
    assert [(one.what, one.why) for one in matters(night(rows=[], agents=[full], host=None))] == [
        ("agent builder", "4K free at /srv/state"),
        ("agent builder", "9M not sent yet, of at most 10M"),
    ]
    assert [one.word for one in matters(night(rows=[], agents=[away], host=None))] == ["Away"]


def test_the_head_tells_since_when_nothing_answers_and_keeps_the_rows() -> None:
    for width, height in ((80, 24), (50, 10)):
        lines = drawn(night(), width, height, away_since=NOW).lines
        assert "no answer since 14:32:11" in plain(lines[0])
        assert any("model-train" in plain(one) for one in lines)


def log_of(*messages: str) -> LogPane:
    pane = LogPane()
    pane.add([LogEntry(at=NOW, tag="stdout", level=20, message=message) for message in messages])
    return pane


def test_a_search_in_a_log_counts_and_steps_backwards_from_its_end() -> None:
    pane = log_of(*(f"line {n} {'zstd' if n % 10 == 0 else ''}" for n in range(100)))
    pane.draw(80, 10)
    pane.find("ZSTD", 10)
    assert pane.count() == "10 of 10"
    assert pane.step(-1, 10)
    assert pane.count() == "9 of 10"
    assert any("line 80" in plain(one) for one in pane.draw(80, 10))
    assert not pane.following
    pane.scroll(10**9, 10)
    assert pane.following


def test_the_oldest_lines_leave_a_long_log_and_what_is_read_stays_where_it_is() -> None:
    pane = log_of(*(f"line {n} {'x' * 90 if n % 7 == 0 else ''}" for n in range(log_pane.MOST_ENTRIES)))
    pane.draw(80, 5)
    pane.scroll(-3000, 5)
    before = pane.draw(80, 5)
    pane.add(log_of(*("later" for _ in range(1001))).entries)
    assert pane.draw(80, 5) == before
    assert len(pane.entries) == log_pane.MOST_ENTRIES
    pane.scroll(-(10**9), 5)
    assert "line 1001" in plain(pane.draw(80, 5)[0])


def test_earlier_lines_leave_what_is_read_where_it_is() -> None:
    late = log_of(*(f"line {n}" for n in range(100, 200)))
    late.draw(80, 5)
    late.scroll(-50, 5)
    before = late.draw(80, 5)
    late.replace(log_of(*(f"line {n}" for n in range(200))).entries)
    assert late.draw(80, 5) == before


def test_a_log_that_grows_is_followed_until_a_person_scrolls_up() -> None:
    pane = log_of(*(f"line {n}" for n in range(50)))
    assert "line 49" in plain(pane.draw(80, 5)[-1])
    pane.add(log_of("line 50").entries)
    assert "line 50" in plain(pane.draw(80, 5)[-1])
    pane.scroll(-10, 5)
    pane.add(log_of("line 51").entries)
    assert "line 40" in plain(pane.draw(80, 5)[-1])


def test_colours_of_a_log_stay_and_other_controls_do_not() -> None:
    pane = log_of("\x1b[31;1mred\x1b[0m plain \x1b[2J\x1b]0;t\x07end", "50 %\r100 %", "a\u202eb")
    first, second, third = pane.draw(80, 3)
    assert [(span.text, span.style) for span in first[-2:]] == [("red", "bold red"), (" plain end", "")]
    assert plain(second).endswith(" 100 %")
    assert "\u202e" not in plain(third)


def test_a_long_line_is_folded_and_what_follows_is_indented() -> None:
    pane = log_of("word " * 40)
    lines = [plain(one) for one in pane.draw(60, 10)]
    assert len(lines) > 4
    assert all(one.startswith(" " * 24 + "word") for one in lines[1:])


def of_group(group: Group, **given: object) -> RunRow:
    return replace(night().rows[0], group=group, figures=None, stuck="", **given)  # type: ignore[arg-type]


def test_a_question_says_what_will_happen_to_runs_that_have_not_started() -> None:
    waits = of_group(Group.DUE, state="Scheduled")
    assert "has not started" in dialogs.cancel_question([waits], NOW).text
    both = dialogs.cancel_question([waits, night().rows[1]], NOW)
    assert (both.title, both.yes) == ("Cancel 2 runs?", "Cancel them")
    assert "1 has not started" in both.text
