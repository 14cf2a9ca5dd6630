"""The agent appends its notice to a run's journal, even if the runner died while it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowherd.host.store.journal_end import append_notice
from flowherd_runner.contract.journal import STREAM_NOTICE, STREAM_STDERR, STREAM_STDOUT, pack_record, pack_so_far
from tests.support.journals import read_lines

ID = "3f0f9e3e-6a7c-4c34-9a39-0d0a8c5d2a10"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def messages(journal: Path) -> list[str]:
    return [line.message for line in read_lines(journal, ID)]


@pytest.mark.parametrize("whole", [0, 1, 3])
@pytest.mark.parametrize("kept", [1, 10, 25, 200])
def test_the_notice_can_be_read_after_a_torn_record(journal: Path, whole: int, kept: int) -> None:
    torn = pack_record(STREAM_STDOUT, 20, 99, b"x" * 1000)[:kept]
    records = [pack_record(STREAM_STDOUT, 20, n, f"line {n}".encode()) for n in range(whole)]
    journal.write_bytes(b"".join(records) + torn)
    append_notice(journal, "Failed: it was killed.", 40)
    assert messages(journal) == [f"line {n}" for n in range(whole)] + ["Failed: it was killed."]


def test_the_notice_can_be_read_in_a_journal_longer_than_the_part_that_is_searched(journal: Path) -> None:
    records = [pack_record(STREAM_STDOUT, 20, n, b"y" * 100_000) for n in range(10)]
    journal.write_bytes(b"".join(records) + records[0][:500])
    append_notice(journal, "Failed.", 40)
    assert len(messages(journal)) == 11 and messages(journal)[-1] == "Failed."


def test_a_second_notice_of_the_same_end_is_not_written(journal: Path) -> None:
    append_notice(journal, "Success. Peak memory 3 MiB.", 20)
    append_notice(journal, "Success. Peak memory 0 MiB.", 20)
    assert messages(journal) == ["Success. Peak memory 3 MiB."]


def test_a_notice_of_the_runner_is_not_mistaken_for_the_agents(journal: Path) -> None:
    payload = json.dumps({"message": "left behind: sleep"}).encode()
    journal.write_bytes(pack_record(STREAM_NOTICE, 30, 1, payload))
    append_notice(journal, "Success.", 20)
    assert messages(journal) == ["left behind: sleep", "Success."]


def test_text_so_far_of_a_runner_that_was_killed_becomes_a_line_before_the_notice(journal: Path) -> None:
    journal.write_bytes(
        pack_so_far(STREAM_STDERR, 20, 1000, b"10%", standing=False)
        + pack_record(STREAM_STDOUT, 20, 2000, b"out")
        + pack_so_far(STREAM_STDERR, 20, 3000, b"20%", standing=True)
        + pack_so_far(STREAM_STDOUT, 20, 4000, b"o", standing=False)
        + pack_record(STREAM_STDOUT, 20, 5000, b"out again")
        + pack_so_far(STREAM_STDERR, 20, 6000, b"torn", standing=False)[:-1]
    )
    append_notice(journal, "lost", 40)
    append_notice(journal, "lost", 40)
    found = [line for line in read_lines(journal, ID) if not line.so_far]
    assert [(line.stream, line.message) for line in found] == [
        ("stdout", "out"),
        ("stdout", "out again"),
        ("stderr", "20%"),
        ("flowherd", "lost"),
    ]
    assert [line.at for line in found] == sorted({line.at for line in found})
