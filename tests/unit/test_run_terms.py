"""The language of filters of runs: what is a term, what is none and what is said about it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from flowherd.states import FINISHED, TAKEN, RunState
from flowherd.story.run_terms import Terms, length, moment, read_terms, written

NOW = datetime(2030, 1, 31, 12, tzinfo=timezone.utc)


def read(text: str) -> Terms:
    terms = read_terms(text, NOW)
    assert terms.problems == []
    return terms


def test_terms_have_names_values_and_a_minus() -> None:
    found = read('state:failed,Cancelled -label:web flow:"night shift" backup -slow')
    assert [(term.name, term.values, term.negated) for term in found.terms] == [
        ("state", ("failed", "Cancelled"), False),
        ("label", ("web",), True),
        ("flow", ("night shift",), False),
        ("", ("backup",), False),
        ("", ("slow",), True),
    ]


def test_a_small_word_names_several_states_and_a_state_itself() -> None:
    assert read("state:running").terms[0].states == TAKEN
    assert read("state:Running").terms[0].states == {RunState.RUNNING}
    assert read("state:timedout").terms[0].states == {RunState.TIMED_OUT}
    assert read("state:ended").terms[0].states >= FINISHED


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stat:failed", "Did you mean state:?"),
        ("colour:red", "There are state:, is:"),
        ("state:faild", "Did you mean state:failed?"),
        ("state:", "needs a value"),
        ("is:tired", "is:late or is:stuck"),
        ("since:yesterday", "since:24h"),
        ("took:10m", "took:>10m"),
        ("took:>", "took:>10m"),
    ],
)
def test_what_is_no_term_is_answered_in_words_and_leaves_the_others(text: str, said: str) -> None:
    found = read_terms(f"{text} backup", NOW)
    assert [term.text for term in found.terms] == ["backup"]
    assert said in found.problems[0]


def test_times_are_that_long_ago_or_written_out() -> None:
    assert moment("24h", NOW) == NOW - timedelta(days=1)
    assert moment("2030-01-31T08:00Z", NOW) == NOW - timedelta(hours=4)
    assert length(">1.5h") == (True, 5400.0)
    for wrong in ("999999w", "", "h"):
        with pytest.raises(ValueError):
            moment(wrong, NOW)


def test_a_term_is_written_so_that_it_is_read_again() -> None:
    for value in ("plain", "two words", "a,b"):
        assert read(written("flow", value)).value_of("flow") == value


def test_a_text_without_a_term_keeps_the_others_as_they_were_written() -> None:
    found = read('is:late -flow:"a b" x')
    assert found.without(found.terms[0]) == '-flow:"a b" x'
