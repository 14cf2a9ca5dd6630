"""The messages of a flow process to its runner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowherd_runner.channel import decode, encode, shorten, shorten_info


@given(st.text())
def test_any_text_arrives_as_it_was(text: str) -> None:
    assert decode(encode({"text": text})) == {"text": text}


def test_a_lone_surrogate_arrives_as_it_was() -> None:
    assert decode(encode({"text": "a\udc80b"})) == {"text": "a\udc80b"}


@pytest.mark.parametrize(
    "data", [b"[" * 60_000, b'{"info":' + b"[" * 500 + b"]" * 500 + b"}", b'{"a":1e', b"[]", b"\xff"]
)
def test_what_a_flow_writes_that_is_no_message_of_its_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)


@pytest.mark.parametrize("unit", ["x", "\u20ac", "\0", '"', "\udc80", "\U0001f600"], ids=ascii)
def test_a_long_text_is_cut_with_a_note(unit: str) -> None:
    text = unit * 500_000
    short = shorten(text, 1000)
    assert len(encode({"": short})) < 1300
    kept, _, note = short.rpartition("\n")
    assert text.startswith(kept.rstrip("\\udc80")) or unit == "\udc80"
    assert note.startswith("[flowherd: ") and note.endswith(" more characters were left out]")


def test_a_short_text_stays_as_it_is() -> None:
    assert shorten("\0" * 100, 1000) == "\0" * 100
    assert shorten("x" * 990, 1000) == "x" * 990


def test_long_fields_of_a_record_are_cut_and_those_that_do_not_fit_are_left_out() -> None:
    assert shorten_info({"a": 1, "b": ["x"], "c": "\udc80"}) == {"a": 1, "b": ["x"], "c": "\udc80"}
    cut = shorten_info({"text": "x" * 100_000, "items": ["y" * 10] * 10_000, "n": 1})
    assert all("more characters were left out" in cut[name] for name in ("text", "items")) and cut["n"] == 1
    many = shorten_info({f"field {n}": "z" * 7000 for n in range(100)})
    assert 5 < len(many) < 10 and len(encode(many)) < 50_000


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"{", b"1"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)
