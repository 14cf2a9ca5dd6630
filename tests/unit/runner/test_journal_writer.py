"""Writing a journal: times, size cap, and a disk that refuses. /dev/full is a disk that is always full."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from flowherd_runner.contract.journal import STREAM_NOTICE, STREAM_STDOUT, Record, unpack_records
from flowherd_runner.journal_writer import JournalWriter


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def open_journal(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def records(path: Path, stream: int) -> list[Record]:
    return [record for record in unpack_records(path.read_bytes()) if record.stream == stream]


def test_records_are_in_the_file_after_a_flush_with_increasing_times(tmp_path: Path) -> None:
    writer = JournalWriter(open_journal(tmp_path / "journal"), 1 << 20)
    writer.add(STREAM_STDOUT, 20, [b"a", b"b"])
    writer.add(STREAM_STDOUT, 20, [b"c"])
    writer.flush()
    found = records(tmp_path / "journal", STREAM_STDOUT)
    assert [record.payload for record in found] == [b"a", b"b", b"c"]
    assert all(later.time_ns - earlier.time_ns >= 1000 for earlier, later in itertools.pairwise(found))
    assert (writer.lines, writer.lines_dropped) == (3, 0)
    writer.close()


def test_the_cap_holds_and_its_notices_have_room(tmp_path: Path) -> None:
    writer = JournalWriter(open_journal(tmp_path / "journal"), 16 * 1024)
    for _ in range(100):
        writer.add(STREAM_STDOUT, 20, [b"x" * 500] * 5)
        writer.notice("a notice about a line")
        writer.flush()
    writer.close()
    assert (tmp_path / "journal").stat().st_size <= 16 * 1024
    assert writer.lines == len(records(tmp_path / "journal", STREAM_STDOUT)) > 0
    assert writer.lines_dropped == 500 - writer.lines
    texts = [record.payload.decode() for record in records(tmp_path / "journal", STREAM_NOTICE)]
    assert "limit of 16384 bytes" in texts[-2]
    assert f"{writer.lines_dropped} lines" in texts[-1]


def test_what_a_full_disk_refuses_is_counted_and_noted_when_it_takes_output_again(tmp_path: Path) -> None:
    clock = Clock()
    fd = os.open("/dev/full", os.O_WRONLY | os.O_APPEND)
    writer = JournalWriter(fd, 1 << 20, clock)
    for _ in range(3):
        writer.add(STREAM_STDOUT, 20, [b"lost", b"lost"])
        writer.flush()
    assert (writer.lines, writer.lines_dropped) == (0, 6)
    journal = open_journal(tmp_path / "journal")
    os.dup2(journal, fd)
    os.close(journal)
    writer.add(STREAM_STDOUT, 20, [b"too early to try again"])
    writer.flush()
    clock.now_s += 2
    writer.add(STREAM_STDOUT, 20, [b"kept"])
    writer.flush()
    writer.close()
    notice, kept = unpack_records((tmp_path / "journal").read_bytes())
    assert b"7 lines were left out because the disk refused them: No space left on device" in notice.payload
    assert kept.payload == b"kept"
    assert (writer.lines, writer.lines_dropped) == (1, 7)


def test_a_disk_that_stays_full_never_raises() -> None:
    clock = Clock()
    writer = JournalWriter(os.open("/dev/full", os.O_WRONLY | os.O_APPEND), 1 << 20, clock)
    for _ in range(5):
        writer.add(STREAM_STDOUT, 20, [b"lost"])
        writer.notice("not taken either")
        writer.flush()
        clock.now_s += 2
    writer.close()
    assert (writer.lines, writer.lines_dropped) == (0, 5)
