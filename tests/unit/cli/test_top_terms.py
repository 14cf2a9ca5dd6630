"""The filter of `flowherd top`: which runs its terms let through, and what is said of a term that is none."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flowherd.cli.top.terms import read_filter
from flowherd.errors import InvalidRequest
from tests.support.top_pictures import NOW, night


def flows(text: str) -> list[str]:
    terms = read_filter(text, NOW)
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
        ("took:>10m", ["amber-finch", "brisk-otter", "grand-bison", "placid-robin", "steady-mink"]),
        ("took:<10s state:ended", ["sunny-stoat", "lucky-plover"]),
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
        ("stat:failed", "Did you mean state:?"),
        ("state:", "needs a value"),
        ("is:slow", "cannot be read"),
        ("colour:red is:late", "is not a term"),
    ],
)
def test_a_term_that_is_none_is_answered_in_words(text: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        read_filter(text, NOW)
    assert said in str(error.value)


def test_a_server_is_asked_for_what_it_can_filter() -> None:
    terms = read_filter("state:Failed flow:price-*,model-train since:24h label:web word", NOW)
    wanted = terms.run_filter([])
    assert wanted.states == ["Failed"]
    assert list(wanted.flows) == ["price-*", "model-train"]
    assert wanted.since == NOW - timedelta(hours=24)
    assert list(wanted.labels) == ["web"]
    assert wanted.search == "word"
    assert read_filter("-state:failed", NOW).run_filter([]).states == []
