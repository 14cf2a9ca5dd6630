"""Chunks of bytes are split into lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowherd_runner.line_splitter import LEFT_OUT_MARK, LineSplitter
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
    assert lines(b"a\r\nb\r", b"\n\r\n") == [b"a", b"b", b""]


def test_a_carriage_return_begins_the_line_anew_as_on_a_terminal() -> None:
    assert lines(b"\r 10%|#   \r 20%|##  \r100%|####\n") == [b"100%|####"]
    assert lines(b"x\n\r 10%", b"\r 2", b"0%\r", b" 30%", b"\nnext\n") == [b"x", b" 30%", b"next"]


@pytest.mark.parametrize("wiped_by", [b"\r       ", b"\r       \r", b"\r\x1b[K", b"\x1b[2K\r"])
def test_a_bar_that_is_wiped_keeps_its_last_state(wiped_by: bytes) -> None:
    assert lines(b"\r 10%\r 99%" + wiped_by + b"\n") == lines(b"\r 10%", b"\r 99%", wiped_by, b"\n")
    assert lines(b"\r 10%\r 99%" + wiped_by)[0].startswith(b" 99%")
    assert lines(b"\r 99%" + wiped_by + b"\rdone\n") == [b"done"]


def test_a_bar_of_any_length_shows_its_last_state_and_loses_nothing() -> None:
    bar = b"".join(b"\r%4d/4000 %s" % (n, b"#" * 60) for n in range(4001))
    assert split([bar[i : i + 1000] for i in range(0, len(bar), 1000)] + [b"\n"]) == [(b"4000/4000 " + b"#" * 60, 0)]


def test_a_line_that_comes_in_parts_is_one_line() -> None:
    assert lines(b"a", b"", b"b", b"c\nd", b"e") == [b"abc", b"de"]


def test_the_last_line_needs_no_newline() -> None:
    assert lines(b"a\nb\r") == [b"a", b"b"]
    assert lines(b"") == []


def test_binary_bytes_are_kept_as_they_are() -> None:
    data = bytes(range(256)).replace(b"\n", b"").replace(b"\r", b"")
    assert split([data], limit=1000) == [(data, 0)]


def shortened(line: bytes, limit: int = 100) -> bytes:
    """A longer line as it is kept: its beginning and its end."""
    return line[: limit - limit // 4] + LEFT_OUT_MARK + line[len(line) - limit // 4 :]


def test_a_longer_line_keeps_its_beginning_and_its_end_and_the_bytes_left_out_are_counted() -> None:
    long = b"".join(b"%03d " % n for n in range(70))
    assert split([long[:90], long[90:180], long[180:] + b"\nshort\n"]) == [(shortened(long), 180), (b"short", 0)]
    assert shortened(long).startswith(b"000 001") and shortened(long).endswith(b"068 069 ")
    assert split([b"a\n" + long[:101] + b"\nb\n"]) == [(b"a", 0), (shortened(long[:101]), 1), (b"b", 0)]
    assert split([b"x" * 100 + b"\n" + b"y" * 100 + b"\r\n"]) == [(b"x" * 100, 0), (b"y" * 100, 0)]


def test_a_line_that_never_ends_takes_a_bounded_amount_of_memory() -> None:
    splitter = LineSplitter(100, Mask([]))
    for _ in range(1000):
        assert splitter.feed(b"x" * 1000) == []
        assert len(splitter._text.head) + len(splitter._text.tail) <= 3 * 101
    assert splitter.finish() == [([shortened(b"x" * 1000)], 999_900)]


def test_a_cut_splits_no_character() -> None:
    [(line, left_out)] = split(["\u20ac".encode() * 100 + b"\n"])
    assert line.decode().replace(LEFT_OUT_MARK.decode(), "") == "\u20ac" * ((300 - left_out) // 3)


def test_secrets_are_masked_in_every_kind_of_line() -> None:
    secrets = ("hunter22",)
    assert split([b"a hunter22\nb hunt", b"er22 c\nhunter22"], secrets=secrets) == [
        (b"a ***", 0),
        (b"b *** c", 0),
        (b"***", 0),
    ]


def test_a_cut_never_leaves_the_beginning_of_a_secret() -> None:
    for before in (*range(60, 80), *range(140, 180)):
        for chunk in (1, 7, 1000):
            data = b"x" * before + b" hunter22 " + b"y" * (200 - before) + b"\n"
            [(line, left_out)] = split([data[i : i + chunk] for i in range(0, len(data), chunk)], secrets=("hunter22",))
            assert line.replace(b"***", b"").replace(LEFT_OUT_MARK, b"").strip(b"xy ") == b"", line
            assert left_out > 0


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 20))
def test_how_the_bytes_are_chunked_makes_no_difference(chunks: list[bytes], limit: int) -> None:
    chunks = [chunk.replace(b"\x1b", b"") for chunk in chunks]  # control sequences may be cut in two
    expected = []
    parts = b"".join(chunks).split(b"\n")
    for index, part in enumerate(parts):
        if index == len(parts) - 1 and not part:
            continue
        states = part.split(b"\r")
        line = next((state for state in reversed(states) if state.strip()), states[-1])
        expected.append((line if len(line) <= limit else None, max(0, len(line) - limit)))
    found = split(chunks, limit)
    assert [line if not left_out else None for line, left_out in found] == [line for line, _ in expected]
    assert all(
        bool(left_out) == bool(over) and left_out >= over
        for (_, left_out), (_, over) in zip(found, expected, strict=True)
    )


# Text so far.


def fed(*chunks: bytes, secrets: tuple[str, ...] = ()) -> LineSplitter:
    splitter = LineSplitter(100, Mask(secrets))
    for chunk in chunks:
        splitter.feed(chunk)
    return splitter


def test_an_unfinished_line_shows_what_a_terminal_would() -> None:
    assert fed(b"a\nPassword: ").so_far(50) == b"Password: "
    assert fed(b"\r 10%\r 20%").so_far(50) == b" 20%"
    assert fed(b"\r 10%", b"\r 20%\r").so_far(50) == b" 20%"
    assert fed(b"a\n").unfinished() is None


def test_its_state_changes_with_every_byte_and_every_line() -> None:
    splitter = fed(b"a")
    first = splitter.unfinished()
    splitter.feed(b"b")
    second = splitter.unfinished()
    splitter.feed(b"\nab")
    assert len({first, second, splitter.unfinished()}) == 3


def test_a_long_unfinished_line_shows_its_beginning_and_its_end() -> None:
    shown = fed(b"begin" + b"." * 10_000 + b"end").so_far(40)
    assert shown.startswith(b"begin...") and shown.endswith(b"...end") and len(shown) == 40 + len(LEFT_OUT_MARK)


def test_an_unfinished_line_never_shows_the_beginning_of_a_secret() -> None:
    secret = b"hunter22-and-more"
    for size in range(len(secret)):
        assert fed(b"the key is " + secret[:size], secrets=(secret.decode(),)).so_far(50) == b"the key is "
    assert fed(b"the key is " + secret, secrets=(secret.decode(),)).so_far(50) == b"the key is ***"
    assert fed(b"the key is hunterX", secrets=(secret.decode(),)).so_far(50) == b"the key is hunterX"
