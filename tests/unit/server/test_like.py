"""LIKE and ILIKE as Postgres has them: the answers of a plain evaluation, in time that grows with the text alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowherd_server.store.postgres_functions import like


def plainly(text: str, pattern: str) -> bool:
    """Compare character by character, with every way that a "%" can go."""
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(plainly(text[start:], pattern[1:]) for start in range(len(text) + 1))
    if pattern[0] == "\\" and len(pattern) > 1:
        return text[:1] == pattern[1] and plainly(text[1:], pattern[2:])
    return text != "" and pattern[0] in ("_", text[0]) and plainly(text[1:], pattern[1:])


@given(st.text("aAb%_\n", max_size=7), st.text("aAb%_\\\n", max_size=6))
def test_it_is_what_a_plain_evaluation_says(text: str, pattern: str) -> None:
    assert like(text, pattern, ignore_case=False) == plainly(text, pattern)
    assert like(text, pattern, ignore_case=True) == plainly(text.lower(), pattern.lower())


@pytest.mark.timeout(10)
@pytest.mark.parametrize("pattern", ["%a%a%a%a%b", "%a_%a_%a_%ab", "_%" * 500 + "b", "%" * 3000 + "b"])
def test_a_pattern_that_fits_nothing_takes_no_longer_for_many_percent_signs(pattern: str) -> None:
    assert not like("a" * 3000, pattern, ignore_case=False)
