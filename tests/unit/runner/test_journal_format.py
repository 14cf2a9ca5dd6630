"""The record format of the journal when the file is damaged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowherd_runner.contract.journal import Record, pack_record, unpack_records

Written = tuple[int, int, int, bytes]
records = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 255), st.integers(0, 2**63), st.binary(max_size=60)), max_size=12
)


def pack(written: list[Written]) -> list[bytes]:
    return [pack_record(*one) for one in written]


def content(found: list[Record]) -> list[Written]:
    return [(one.stream, one.level, one.time_ns, one.payload) for one in found]


@given(records, st.integers(0, 2**40))
def test_what_was_written_is_read_with_its_offsets(written: list[Written], base: int) -> None:
    packed = pack(written)
    found = list(unpack_records(b"".join(packed), base))
    assert content(found) == written
    ends = [base + sum(map(len, packed[: index + 1])) for index in range(len(packed))]
    assert [one.end for one in found] == ends
    assert [one.offset for one in found] == [base, *ends][: len(ends)]


@given(records, st.data())
def test_a_cut_loses_only_the_record_that_it_hits(written: list[Written], data: st.DataObject) -> None:
    packed = pack(written)
    whole = b"".join(packed)
    cut = data.draw(st.integers(0, len(whole)))
    kept = sum(1 for index in range(len(packed)) if sum(map(len, packed[: index + 1])) <= cut)
    assert content(list(unpack_records(whole[:cut]))) == written[:kept]


@given(records.filter(bool), st.data())
def test_a_flipped_bit_loses_only_the_records_behind_it_or_itself(written: list[Written], data: st.DataObject) -> None:
    packed = pack(written)
    hit = data.draw(st.integers(0, len(packed) - 1))
    damaged = bytearray(packed[hit])
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    found = content(list(unpack_records(b"".join([*packed[:hit], bytes(damaged), *packed[hit + 1 :]]))))
    assert found[:hit] == written[:hit]
    assert all(one in written for one in found)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_journal_never_raise(data: bytes) -> None:
    list(unpack_records(data))
