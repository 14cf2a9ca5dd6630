"""A journal is read as log lines, at once or while it grows; no record is split, duplicated or invented."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowherd.backends.graphql.inputs import log_input
from flowherd.host.delivery.journal_reader import MAX_RECORD_BYTES, read_batch, without_replaced
from flowherd_runner.contract.journal import (
    STREAM_LOG,
    STREAM_NOTICE,
    STREAM_STDERR,
    STREAM_STDOUT,
    pack_record,
    pack_so_far,
)
from tests.support.journals import read_lines

RUN = str(uuid.uuid4())
START_NS = 1_700_000_000_000_000_000


def record(text: str | bytes, number: int = 0, stream: int = STREAM_STDOUT, level: int = 20) -> bytes:
    payload = text.encode() if isinstance(text, str) else text
    return pack_record(stream, level, START_NS + number * 1000, payload)


def messages(path: Path) -> list[str]:
    return [line.message for line in read_lines(path, RUN)]


def test_a_line_has_every_field_of_its_record(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = record("hello", 1, STREAM_STDERR, 40)
    payload = json.dumps({"logger": "my.logger", "message": "two\nlines"})
    path.write_bytes(first + record(payload, 2, STREAM_LOG, 30) + record('{"message": "ours"}', 3, STREAM_NOTICE))
    one, two, three = read_lines(path, RUN)
    assert (one.flow_run_id, one.stream, one.level, one.message, one.line_id) == (RUN, "stderr", 40, "hello", "0")
    assert one.at == datetime(2023, 11, 14, 22, 13, 20, 1, tzinfo=timezone.utc)
    assert (two.stream, two.level, two.logger, two.message) == ("log", 30, "my.logger", "two\nlines")
    assert two.line_id == str(len(first))
    assert (three.stream, three.logger, three.message) == ("flowherd", "flowherd", "ours")


def test_a_record_of_a_task_names_its_task_run_and_an_invalid_id_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    task_run_id = str(uuid.uuid4())
    given = [task_run_id, "../..", 5, None]
    payloads = [json.dumps({"logger": "x", "message": "y", "task_run_id": one}) for one in given]
    path.write_bytes(b"".join(record(text, n, STREAM_LOG) for n, text in enumerate(payloads)))
    assert [line.task_run_id for line in read_lines(path, RUN)] == [task_run_id, None, None, None]


def test_a_record_of_a_subflow_names_its_flow_run_and_remains_a_line_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    subflow_run_id = str(uuid.uuid4())
    given = [subflow_run_id, "../..", 5, None, RUN, subflow_run_id.upper()]
    payloads = [json.dumps({"logger": "x", "message": "y", "flow_run_id": one}) for one in given]
    path.write_bytes(b"".join(record(text, n, STREAM_LOG) for n, text in enumerate(payloads)))
    lines = list(read_lines(path, RUN))
    assert [line.subflow_run_id for line in lines] == [subflow_run_id, None, None, None, None, None]
    assert {line.flow_run_id for line in lines} == {RUN}


def test_the_further_fields_of_a_record_are_kept_in_a_form_that_every_server_can_store(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    given = [{"order": 7, "items": ["a\0b", {"c\0": None}]}, "no object", None]
    payloads = [json.dumps({"logger": "x", "message": "y", "info": one}) for one in given]
    path.write_bytes(b"".join(record(text, n, STREAM_LOG) for n, text in enumerate(payloads)))
    lines = list(read_lines(path, RUN))
    assert [line.info for line in lines] == [{"order": 7, "items": ["a\\x00b", {"c\\x00": None}]}, None, None]
    assert log_input(replace(lines[0], info={"order": 7, "stream": "x"}), with_id=False)["info"] == {
        "order": 7,
        "stream": "log",
    }


def so_far(text: str, number: int, stream: int = STREAM_STDERR, *, standing: bool = False) -> bytes:
    return pack_so_far(stream, 20, START_NS + number * 1000, text.encode(), standing)


def test_text_so_far_is_given_until_something_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(so_far("10%", 1) + so_far("20%", 2) + record("other", 3) + so_far("prompt", 4, STREAM_STDOUT))
    first, end = read_batch(path, RUN, 0, 1)
    assert [(line.message, line.so_far) for line in first] == [("20%", True), ("other", False), ("prompt", True)]
    assert end == path.stat().st_size
    with path.open("ab") as file:
        file.write(so_far("99%", 5) + record("100%", 6, STREAM_STDERR))
    second, _ = read_batch(path, RUN, end, 1)
    assert [(line.message, line.so_far) for line in second] == [("100%", False)]


def test_standing_text_so_far_is_given_in_any_case_and_views_leave_it_out(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(so_far("1", 1) + so_far("2", 2, standing=True) + so_far("3", 3) + record("4", 4, STREAM_STDERR))
    lines, _ = read_batch(path, RUN, 0, 1)
    assert [(line.message, line.standing) for line in lines] == [("2", True), ("4", False)]
    assert [line.message for line in without_replaced(lines)] == ["4"]


def test_bytes_that_are_not_utf_8_are_shown_escaped(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(record(b"\xff\x00\xc3\xa9"))
    assert messages(path) == ["\\xff\\x00é"]


@pytest.mark.parametrize("text", ["no json", "[1]", ""])
def test_an_invalid_log_record_is_shown_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "journal"
    path.write_bytes(record(text, stream=STREAM_LOG))
    assert messages(path) == [text]


def test_a_missing_journal_is_empty(tmp_path: Path) -> None:
    assert read_batch(tmp_path / "none", RUN, 5, 1000) == ([], 5)


def test_a_torn_tail_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    whole, torn = record("whole"), record("torn", 1)
    path.write_bytes(whole + torn[:-1])
    lines, offset = read_batch(path, RUN, 0, 1000)
    assert ([line.message for line in lines], offset) == (["whole"], len(whole))
    assert read_batch(path, RUN, offset, 1000) == ([], offset)
    path.write_bytes(whole + torn)
    assert [line.message for line in read_batch(path, RUN, offset, 1000)[0]] == ["torn"]


def test_output_that_looks_like_records_is_text_no_matter_where_a_batch_ends(tmp_path: Path) -> None:
    """A flow may print a journal. Nothing in it is read as a record, even while its line is still being written."""
    path = tmp_path / "journal"
    whole = record("before") + record(b"x" * 1000 + record("made up") * 3 + b"y" * 1000, 1)
    for end in range(len(record("before")), len(whole), 7):
        path.write_bytes(whole[:end])
        assert messages(path) == ["before"]


def test_damage_loses_only_the_damaged_records(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(record("first") + b"\0" * (5 * MAX_RECORD_BYTES) + record("last", 1))
    assert messages(path) == ["first", "last"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=3000), max_size=30), st.lists(st.integers(min_value=0, max_value=2000), max_size=60))
def test_every_record_of_a_growing_journal_is_read_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], steps: list[int]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    whole = b"".join(record(payload, number) for number, payload in enumerate(payloads))
    path.write_bytes(b"")
    seen, offset, end = [], 0, 0
    for step in [*steps, len(whole)]:
        end = min(len(whole), end + step)
        path.write_bytes(whole[:end])
        lines, offset = read_batch(path, RUN, offset, 1)
        seen += lines
    while True:
        lines, behind = read_batch(path, RUN, offset, 1)
        if behind == offset:
            break
        seen, offset = seen + lines, behind
    assert [int(line.line_id or -1) for line in seen] == _offsets(payloads)
    assert offset == len(whole)


def _offsets(payloads: list[bytes]) -> list[int]:
    found, at = [], 0
    for payload in payloads:
        found.append(at)
        at += len(record(payload))
    return found
