"""When an unfinished line is due in the journal, and how its record looks to readers of two releases."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from flowherd_runner.contract.journal import (
    STREAM_STDERR,
    STREAM_STDOUT,
    pack_record,
    pack_so_far,
    unpack_all,
    unpack_records,
)
from flowherd_runner.journal_writer import JournalWriter
from flowherd_runner.line_splitter import Unfinished
from flowherd_runner.text_so_far import FIRST_AFTER_S, INTERVAL_S, STANDING_S, TextSoFar
from tests.support import journal_of_0_1_0


class Stream:
    """One stream on a clock of its own; collects what was due."""

    def __init__(self) -> None:
        self.so_far = TextSoFar()
        self.written: list[tuple[float, bytes, bool]] = []

    def at(self, now_s: float, line: int = 0, text: bytes = b"") -> None:
        self.so_far.look(Unfinished(line, len(text)) if text else None, now_s)
        if self.so_far.is_due(now_s):
            if self.so_far.is_news(text, now_s):
                self.written.append((now_s, text, self.so_far.is_standing(now_s)))
            self.so_far.done(text, now_s)


def test_a_line_that_is_finished_soon_is_never_due() -> None:
    stream = Stream()
    for number in range(100):
        stream.at(number * 0.1, number, b"par")
    stream.at(10.0)
    assert stream.written == []
    assert stream.so_far.deadline() is None


def test_a_line_is_due_soon_and_then_once_a_second_when_it_has_changed() -> None:
    stream = Stream()
    for tenth in range(61):
        stream.at(tenth / 10, 0, b"." * (tenth + 1))
    times = [at for at, _, _ in stream.written]
    assert times[0] == pytest.approx(FIRST_AFTER_S, abs=0.11)
    assert all(later - earlier >= INTERVAL_S for earlier, later in itertools.pairwise(times))
    assert len(times) in (5, 6)


def test_a_line_that_does_not_change_is_due_once_and_once_more_after_a_minute() -> None:
    stream = Stream()
    stream.at(0.0, 0, b"Password: ")
    while (deadline_s := stream.so_far.deadline()) is not None and deadline_s < 5 * STANDING_S:
        stream.at(deadline_s, 0, b"Password: ")
    assert stream.written == [(FIRST_AFTER_S, b"Password: ", False), (STANDING_S, b"Password: ", True)]


def test_a_line_that_changes_for_minutes_is_standing_once_a_minute() -> None:
    stream = Stream()
    for second in range(200):
        stream.at(float(second), 0, b"x" * (second + 1))
    assert [at for at, _, standing in stream.written if standing] == [60.0, 120.0, 180.0]


def test_the_next_line_begins_anew_and_one_that_had_to_wait_goes_on() -> None:
    stream = Stream()
    stream.at(0.0, 0, b"a")
    stream.at(0.5, 0, b"a")
    stream.at(0.6, 1, b"a")
    stream.at(0.9, 1, b"a")
    stream.at(1.0)
    stream.at(1.1, 1, b"a")
    stream.at(9.0, 1, b"a")
    assert [(at, text) for at, text, _ in stream.written] == [(0.5, b"a"), (0.9, b"a")]


# The record.


def test_text_so_far_is_told_from_lines() -> None:
    data = pack_so_far(STREAM_STDOUT, 20, 1, b"so", standing=False) + pack_record(STREAM_STDOUT, 20, 2, b"so far")
    data += pack_so_far(STREAM_STDERR, 20, 3, b"\xf1\x0e\xf1\x0f", standing=True)
    found = list(unpack_all(data, 100))
    assert [(one.stream, one.payload, one.so_far, one.standing) for one in found] == [
        (STREAM_STDOUT, b"so", True, False),
        (STREAM_STDOUT, b"so far", False, False),
        (STREAM_STDERR, b"\xf1\x0e\xf1\x0f", True, True),
    ]
    assert [one.end for one in found][-1] == 100 + len(data)
    assert [one.payload for one in unpack_records(data)] == [b"so far"]


def test_an_agent_of_0_1_0_reads_the_lines_and_nothing_else_whatever_is_there_yet() -> None:
    texts = [b"so", b"so far", b"", b"\xf1\x0e" * 20, b"x" * 4096]
    parts = [
        one
        for number, text in enumerate(texts)
        for one in (
            pack_so_far(STREAM_STDERR, 20, number * 2 + 1, text, standing=bool(number % 2)),
            pack_record(STREAM_STDOUT, 20, number * 2 + 2, b"line %d" % number),
        )
    ]
    data = b"".join(parts) + pack_so_far(STREAM_STDOUT, 20, 99, b"the end", standing=True)
    for cut in [*range(0, len(data), 7), len(data)]:
        expected = [(one.stream, one.payload, one.end) for one in unpack_records(data[:cut])]
        assert list(journal_of_0_1_0.unpack_records(data[:cut])) == expected
    assert len(expected) == len(texts)


def test_text_so_far_takes_a_bounded_part_of_the_journal_and_counts_as_no_line(tmp_path: Path) -> None:
    now_s = 0.0
    fd = os.open(tmp_path / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    writer = JournalWriter(fd, 100_000, lambda: now_s)
    for _ in range(100_000):
        now_s += 1.0
        writer.add_so_far(STREAM_STDERR, 20, b"bar", standing=False)
    writer.flush()
    assert 20_000 < (tmp_path / "journal").stat().st_size <= 25_000
    writer.add(STREAM_STDOUT, 20, [b"x" * 1000] * 60)
    writer.close()
    assert (writer.lines, writer.lines_dropped) == (60, 0)
