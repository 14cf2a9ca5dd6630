"""Who asked for something: sent in a header, stored as a text, continued in a sentence."""

from __future__ import annotations

import pytest

from flowherd.story.asked_by import BY_API, BY_SCHEDULE, asked_by, by_header, by_phrase, read_by


@pytest.mark.parametrize(
    ("by", "phrase"),
    [
        (BY_SCHEDULE, "by its schedule"),
        (BY_API, "through the API"),
        (asked_by("page"), "on the page"),
        (asked_by("page", "alice"), "on the page by alice"),
        (asked_by("command line", "bob"), "from the command line by bob"),
        (asked_by("Python client", "bob"), "by a Python program of bob"),
        ("something else", "by something else"),
        ("", ""),
        (None, ""),
    ],
)
def test_a_sentence_continues_with_who_it_was(by: str | None, phrase: str) -> None:
    assert by_phrase(by) == phrase


@pytest.mark.parametrize("name", ["alice", "Zoë 日本", "a\r\nb", "%41", "x" * 500])
def test_any_name_passes_through_a_header(name: str) -> None:
    by = asked_by("command line", name)
    header = by_header(by)
    assert header.isascii() and header.isprintable()
    assert read_by(header) == by.strip()


def test_without_a_header_it_is_the_api() -> None:
    assert [read_by(header) for header in (None, "", "  ", "%FF")] == [BY_API, BY_API, BY_API, "\ufffd"]
