"""Chunks of bytes are split into lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowherd_runner.line_splitter import LineSplitter
from flowherd_runner.masking import Mask


def split(chunks: list[bytes], limit: int = 100, secrets: tuple[str, ...] = ()) -> list[tuple[bytes, int]]:
    """Every line, with the number of bytes left out of it."""
    splitter = LineSplitter(limit, Mask(secrets))
    batches = [batch for chunk in chunks for batch in splitter.feed(chunk)] + splitter.finish()
    found = []
    for batch in batches:
        assert batch.lines
        found += [(line, 0) for line in batch.lines[:-1]] + [(batch.lines[-1], batch.left_out)]
    return found


def lines(*chunks: bytes) -> list[bytes]:
    return [line for line, _ in split(list(chunks))]


def test_lines_lose_their_newline_and_nothing_else() -> None:
    assert lines(b"a\nb\n\n c \n") == [b"a", b"b", b"", b" c "]


def test_carriage_return_and_newline_together_end_a_line() -> None:
    assert lines(b"a\r\nb\rc\r", b"\n\r\n") == [b"a", b"b\rc", b""]


def test_a_line_that_comes_in_parts_is_one_line() -> None:
    assert lines(b"a", b"", b"b", b"c\nd", b"e") == [b"abc", b"de"]


def test_the_last_line_needs_no_newline() -> None:
    assert lines(b"a\nb\r") == [b"a", b"b\r"]
    assert lines(b"") == []


def test_binary_bytes_are_kept_as_they_are() -> None:
    data = bytes(range(256)).replace(b"\n", b"")
    assert split([data], limit=1000) == [(data, 0)]


def test_a_longer_line_is_cut_and_the_bytes_left_out_are_counted() -> None:
    assert split([b"x" * 90, b"x" * 90, b"x" * 90 + b"\nshort\n"]) == [(b"x" * 100, 170), (b"short", 0)]
    assert split([b"a\n" + b"x" * 101 + b"\nb\n"]) == [(b"a", 0), (b"x" * 100, 1), (b"b", 0)]
    assert split([b"x" * 100 + b"\n" + b"y" * 100 + b"\r\n"]) == [(b"x" * 100, 0), (b"y" * 100, 0)]


def test_a_line_that_never_ends_takes_a_bounded_amount_of_memory() -> None:
    splitter = LineSplitter(100, Mask([]))
    for _ in range(1000):
        assert splitter.feed(b"x" * 1000) == []
        assert len(splitter._partial) <= 101
    assert splitter.finish() == [([b"x" * 100], 999_900)]


def test_secrets_are_masked_in_every_kind_of_line() -> None:
    secrets = ("hunter22",)
    assert split([b"a hunter22\nb hunt", b"er22 c\nhunter22"], secrets=secrets) == [
        (b"a ***", 0),
        (b"b *** c", 0),
        (b"***", 0),
    ]


def test_a_cut_never_leaves_the_beginning_of_a_secret() -> None:
    for before in range(90, 102):
        for chunk in (1, 7, 1000):
            data = b"x" * before + b"hunter22" + b"y" * 50 + b"\n"
            [(line, left_out)] = split([data[i : i + chunk] for i in range(0, len(data), chunk)], secrets=("hunter22",))
            assert line.replace(b"***", b"").strip(b"xy") == b"", line
            assert left_out > 0


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 20))
def test_how_the_bytes_are_chunked_makes_no_difference(chunks: list[bytes], limit: int) -> None:
    whole = b"".join(chunks)
    expected = []
    parts = whole.split(b"\n")
    for index, part in enumerate(parts):
        if index == len(parts) - 1 and not part:
            continue
        line = part[:-1] if part.endswith(b"\r") and index < len(parts) - 1 and len(part) <= limit + 1 else part
        expected.append((line[:limit], max(0, len(line) - limit)))
    assert split(chunks, limit) == expected
