"""The filter of `flowherd top`: which runs its terms let through, and what is said of a term that is none."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flowherd.cli.top.terms import parse_terms
from flowherd.errors import InvalidRequest
from tests.support.top_pictures import NOW, night


def flows(text: str) -> list[str]:
    terms = parse_terms(text, NOW)
    return [row.name for row in night().rows if terms.matches(row)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("is:stuck", ["amber-finch"]),
        ("is:late", ["gentle-dove"]),
        ("state:failed", ["sunny-stoat", "steady-mink"]),
        ("state:failed,success -flow:nightly-*", ["sunny-stoat", "lucky-plover"]),
        ("flow:*-backup", ["steady-mink", "spry-newt"]),
        ("agent:gpu-02", ["brisk-otter"]),
        ("took:>10m", ["steady-mink"]),
        ("took:<10s", ["sunny-stoat", "lucky-plover"]),
        ("vat_rate", ["sunny-stoat"]),
        ("7f3c1", ["brisk-otter"]),
        ("since:10m", ["olive-camel", "noble-crane", "spry-newt", "lucky-plover"]),
        ("since:13h before:3h", ["amber-finch", "steady-mink"]),
    ],
)
def test_terms_let_the_runs_through_that_they_name(text: str, names: list[str]) -> None:
    assert flows(text) == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stat:failed", "did you mean state:?"),
        ("state:", "state: needs a value"),
        ("state:fialed", "state:'fialed' is no state"),
        ("is:slow", "is:late and is:stuck"),
        ("took:10m", "took:>10m"),
        ("took:>10x", "is not a duration"),
        ("since:monday", "is not a time"),
        ("colour:red", "terms are state:"),
    ],
)
def test_a_term_that_is_none_is_answered_in_words(text: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        parse_terms(text, NOW)
    assert said in str(error.value)


def test_a_server_is_asked_for_what_it_can_filter() -> None:
    terms = parse_terms("state:failed flow:price-*,model-train since:24h label:web word", NOW)
    wanted = terms.run_filter([])
    assert wanted.states == ["Failed"]
    assert wanted.flows == ["price-*", "model-train"]
    assert wanted.since == NOW - timedelta(hours=24)
    assert wanted.labels == ["web"]
    assert wanted.search == "word"
    assert parse_terms("-state:failed", NOW).run_filter([]).states == []
