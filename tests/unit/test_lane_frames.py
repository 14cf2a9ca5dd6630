"""The lane's frames: what is encoded is found again, however it is cut, and nothing else is taken for a frame."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowherd.lane.frames import MAX_FRAME_BYTES, BadFrame, Frame, FrameReader, encode

FRAMES = st.builds(Frame, st.fixed_dictionaries({"op": st.text(max_size=5)}), st.binary(max_size=20))


@settings(max_examples=30)
@given(frames=st.lists(FRAMES, max_size=4), size=st.integers(1, 64))
def test_frames_are_found_however_their_bytes_are_cut(frames: list[Frame], size: int) -> None:
    data = b"".join(encode(*frame) for frame in frames)
    reader, found = FrameReader(), list[Frame]()
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])
        found += reader.frames()
    assert found == frames
    assert not reader.is_within_frame


@settings(max_examples=50)
@given(pieces=st.lists(st.binary(max_size=40) | st.builds(encode, st.just({"op": "x"})), max_size=4))
def test_other_bytes_are_refused_or_waited_with(pieces: list[bytes]) -> None:
    reader = FrameReader()
    with contextlib.suppress(BadFrame):
        for piece in pieces:
            reader.feed(piece)
            assert all(isinstance(frame.head, dict) for frame in reader.frames())


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", MAX_FRAME_BYTES + 1),
        struct.pack(">I", 3),
        struct.pack(">II", 6, 3) + b"{}",
        struct.pack(">II", 6, 2) + b"[]",
        struct.pack(">II", 6, 2) + b"\xff}",
        struct.pack(">II", 100_004, 100_000) + b"[" * 100_000,
    ],
)
def test_what_cannot_be_a_frame_is_refused(data: bytes) -> None:
    reader = FrameReader()
    reader.feed(data)
    with pytest.raises(BadFrame):
        list(reader.frames())


def test_a_frame_that_is_too_large_is_not_sent() -> None:
    with pytest.raises(ValueError, match="are allowed"):
        encode({}, bytes(MAX_FRAME_BYTES))
