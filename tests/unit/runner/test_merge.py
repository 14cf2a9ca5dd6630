"""Merging the lines of two streams and the records of a third channel into one order."""

from __future__ import annotations

import itertools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowherd_runner.masking import Mask
from flowherd_runner.merge import MAX_WAITING_BYTES, PATIENCE_S, Lines, Merge, Piece, make_marker

TOKEN = b"0123456789abcdef"
OUT, ERR = 1, 2
BOTH = (OUT, ERR)


def new() -> Merge:
    return Merge(TOKEN, BOTH, 1000, Mask([]))


def flat(pieces: list[Piece]) -> list[object]:
    found: list[object] = []
    for piece in pieces:
        found += piece.lines if isinstance(piece, Lines) else [piece.record]
    return found


def mark(identity: str) -> bytes:
    return make_marker(TOKEN, identity)


def test_lines_without_records_pass_at_once() -> None:
    merge = new()
    merge.feed(OUT, b"a\nb\n", 0)
    merge.feed(ERR, b"c\n", 0)
    assert flat(merge.take(0)) == [b"a", b"b", b"c"]
    assert merge.deadline() is None


def test_a_record_comes_after_what_was_printed_before_it_and_before_what_was_printed_after() -> None:
    merge = new()
    merge.feed(OUT, b"a\n" + mark("7-1") + b"c\n", 0)
    merge.feed(ERR, b"b\n" + mark("7-1") + b"d\n", 0)
    merge.add_record("7-1", BOTH, "record", 6, 0)
    assert flat(merge.take(0)) == [b"a", b"b", "record", b"c", b"d"]


def test_what_looks_like_a_marker_of_another_run_is_text_wherever_it_stands() -> None:
    merge = new()
    foreign = make_marker(b"fedcba9876543210", "7-1")
    merge.feed(OUT, b"a" + foreign + b"\n" + foreign[:-1] + mark("7-1") + mark("7-2") + b"7-3\x1e\n", 0)
    merge.add_record("7-1", (OUT,), "first", 5, 0)
    merge.add_record("7-2", (OUT,), "second", 6, 0)
    assert flat(merge.take(0)) == [b"a" + foreign, "first", "second", foreign[:-1] + b"7-3\x1e"]


def test_a_record_waits_for_both_streams() -> None:
    merge = new()
    merge.add_record("7-1", BOTH, "record", 6, 0)
    merge.feed(OUT, b"a\n" + mark("7-1") + b"c\n", 0)
    assert flat(merge.take(0.1)) == [b"a"]
    merge.feed(ERR, b"b\n" + mark("7-1"), 0.2)
    assert flat(merge.take(0.2)) == [b"b", "record", b"c"]


def test_a_missing_marker_is_waited_for_one_second() -> None:
    merge = new()
    merge.add_record("7-1", BOTH, "record", 6, 5.0)
    merge.feed(OUT, mark("7-1") + b"after\n", 5.0)
    assert merge.deadline() == 5.0 + PATIENCE_S
    assert flat(merge.take(5.9)) == []
    assert flat(merge.take(6.0)) == ["record", b"after"]
    assert merge.deadline() is None


def test_a_marker_that_comes_too_late_is_taken_out_and_holds_up_nothing() -> None:
    merge = new()
    merge.add_record("7-1", BOTH, "record", 6, 0)
    merge.take(2)
    merge.feed(OUT, b"a\n" + mark("7-1") + b"b\n", 3)
    assert flat(merge.take(3)) == [b"a", b"b"]
    assert merge.deadline() is None


def test_a_marker_before_its_record_waits_for_it() -> None:
    merge = new()
    merge.feed(OUT, mark("7-1") + b"b\n", 0)
    assert flat(merge.take(0.5)) == []
    merge.add_record("7-1", (OUT,), "record", 6, 0.5)
    assert flat(merge.take(0.5)) == ["record", b"b"]


def test_a_marker_whose_record_never_comes_is_dropped() -> None:
    merge = new()
    merge.feed(OUT, mark("7-1") + b"b\n", 0)
    merge.take(0)
    assert merge.deadline() == PATIENCE_S
    assert flat(merge.take(PATIENCE_S)) == [b"b"]
    merge.end_records()
    merge.feed(ERR, mark("7-2") + b"c\n", 2)
    assert flat(merge.take(2)) == [b"c"]


def test_the_end_of_a_stream_counts_as_its_marker() -> None:
    merge = new()
    merge.add_record("7-1", BOTH, "record", 6, 0)
    merge.feed(OUT, b"a\n" + mark("7-1"), 0)
    merge.feed(ERR, b"last words", 0)
    assert flat(merge.take(0)) == [b"a"]
    merge.end(ERR)
    assert flat(merge.take(0)) == [b"last words", "record"]


def test_a_record_without_markers_needs_no_stream() -> None:
    merge = new()
    merge.add_record("7-1", (), "record", 6, 0)
    assert flat(merge.take(0)) == ["record"]


def test_a_marker_in_the_middle_of_a_line_leaves_the_line_whole() -> None:
    merge = new()
    merge.add_record("7-1", BOTH, "record", 6, 0)
    merge.feed(OUT, b"50%" + mark("7-1") + b"...100%\n", 0)
    merge.feed(ERR, mark("7-1"), 0)
    assert flat(merge.take(0)) == ["record", b"50%...100%"]


def test_a_marker_may_be_read_in_two_parts() -> None:
    marker = mark("7-1")
    for cut in range(1, len(marker)):
        merge = new()
        merge.add_record("7-1", (OUT,), "record", 6, 0)
        merge.feed(OUT, b"a\n" + marker[:cut], 0)
        assert flat(merge.take(0)) == [b"a"]
        merge.feed(OUT, marker[cut:] + b"b\n", 0)
        assert flat(merge.take(0)) == ["record", b"b"]


def test_bytes_that_look_like_the_beginning_of_a_marker_are_output() -> None:
    for text in (b"\x1e", b"\x1e" + TOKEN, b"\x1e" + TOKEN + b":12", b"\x1e" + TOKEN + b":x\x1e", b"\x1e\x1e"):
        merge = new()
        merge.feed(OUT, text, 0)
        merge.feed(OUT, b" end\n", 0)
        merge.end(OUT)
        assert flat(merge.take(0)) == [text + b" end"]


def test_markers_of_another_run_are_output() -> None:
    merge = new()
    other = make_marker(b"f" * 16, "7-1")
    merge.feed(OUT, other + b"\n", 0)
    assert flat(merge.take(0)) == [other]


def test_a_record_logged_while_another_is_being_sent_causes_no_waiting() -> None:
    """A signal handler that logs: the inner record is sent second and marked first."""
    merge = new()
    merge.add_record("7-1", BOTH, "outer", 5, 0)
    merge.add_record("7-2", BOTH, "inner", 5, 0)
    merge.feed(OUT, mark("7-2") + mark("7-1"), 0)
    merge.feed(ERR, mark("7-2") + mark("7-1"), 0)
    assert flat(merge.take(0)) == ["inner", "outer"]


def test_two_processes_that_mark_the_streams_in_different_order_cause_no_waiting() -> None:
    merge = new()
    merge.add_record("7-1", BOTH, "seven", 5, 0)
    merge.add_record("8-1", BOTH, "eight", 5, 0)
    merge.feed(OUT, b"a\n" + mark("8-1") + b"b\n" + mark("7-1") + b"c\n", 0)
    merge.feed(ERR, b"d\n" + mark("7-1") + b"e\n" + mark("8-1") + b"f\n", 0)
    found = flat(merge.take(0))
    assert sorted(found, key=str) == sorted([b"a", b"b", b"c", b"d", b"e", b"f", "seven", "eight"], key=str)
    assert merge.deadline() is None


def test_what_waits_behind_a_missing_marker_is_bounded() -> None:
    merge = new()
    merge.add_record("7-1", BOTH, "record", 6, 0)
    merge.feed(OUT, mark("7-1"), 0)
    taken = []
    chunk = b"x" * 999 + b"\n"
    for _ in range(2 * MAX_WAITING_BYTES // len(chunk)):
        merge.feed(OUT, chunk, 0)
        taken += flat(merge.take(0))
    assert taken[0] == "record"
    assert len(taken) == 1 + 2 * MAX_WAITING_BYTES // len(chunk)


@settings(suppress_health_check=list(HealthCheck), deadline=None)  # a busy host is slow, not wrong
@given(st.data())
def test_one_process_keeps_its_order_however_its_output_is_read(data: st.DataObject) -> None:
    """Every print and every record in program order per stream, and records exactly between their neighbours."""
    program = data.draw(st.lists(st.sampled_from(["out", "err", "log"]), max_size=25))
    out, err, records, numbers = b"", b"", [], itertools.count(1)
    for index, step in enumerate(program):
        if step == "out":
            out += b"%d\n" % index
        elif step == "err":
            err += b"%d\n" % index
        else:
            identity = f"7-{next(numbers)}"
            records.append((identity, str(index), len(out), len(err)))
            out += mark(identity)
            err += mark(identity)
    found = _read_in_parts(data, out, err, records)
    order = [int(item) for item in found]
    assert sorted(order) == list(range(len(program)))
    for position, index in enumerate(order):
        if program[index] == "log":
            assert all(before < index for before in order[:position])
            assert all(after > index for after in order[position + 1 :])


def _read_in_parts(data: st.DataObject, out: bytes, err: bytes, records: list[tuple[str, str, int, int]]) -> list[str]:
    """Read both streams in chunks of any size, and before each merge the records that had been sent by then."""
    merge, found, sent = new(), [], 0
    position = {OUT: 0, ERR: 0}
    streams = {OUT: out, ERR: err}
    sizes = st.integers(0, 30)
    for chunks in [*data.draw(st.lists(st.tuples(sizes, sizes), max_size=20)), (len(out), len(err))]:
        for stream, size in zip(BOTH, chunks, strict=True):
            merge.feed(stream, streams[stream][position[stream] : position[stream] + size], 0)
            position[stream] += size
        while sent < len(records) and (records[sent][2] < position[OUT] or records[sent][3] < position[ERR]):
            merge.add_record(records[sent][0], BOTH, records[sent][1], 1, 0)
            sent += 1
        found += merge.take(0)
    for stream in BOTH:
        merge.end(stream)
    found += merge.take(0)
    return [item.decode() if isinstance(item, bytes) else str(item) for item in flat(found)]
