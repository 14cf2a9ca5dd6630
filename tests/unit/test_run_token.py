"""Tokens of single flow runs: only the server's own token makes one that the server takes."""

from __future__ import annotations

import pytest

from flowherd.run_token import RunToken, make_run_token, read_run_token

RUN = "8f14e45f-ceea-467f-9a36-dedd4bea2543"


def test_a_token_says_which_run_and_which_claim() -> None:
    token = make_run_token("s3cret", RUN.upper(), 7)
    assert token == make_run_token("s3cret", RUN, 7)
    assert "s3cret" not in token
    assert read_run_token("s3cret", token) == RunToken(RUN, 7)


@pytest.mark.parametrize("server_token", ["another", "", "s3cret2"])
def test_another_server_does_not_take_it(server_token: str) -> None:
    assert read_run_token(server_token, make_run_token("s3cret", RUN, 7)) is None


def test_a_changed_token_is_none() -> None:
    token = make_run_token("s3cret", RUN, 7)
    other = make_run_token("s3cret", RUN.replace("8f", "9f"), 7)
    changed = [
        token.replace(".7.", ".8."),
        token[:-1],
        token + "0",
        token + "\n",
        token.upper(),
        other.rpartition(".")[0] + "." + token.rpartition(".")[2],
        "s3cret",
        "",
    ]
    assert [read_run_token("s3cret", one) for one in changed] == [None] * len(changed)


def test_only_a_run_can_have_one() -> None:
    with pytest.raises(ValueError, match="badly formed"):
        make_run_token("s3cret", "..", 1)
    with pytest.raises(ValueError, match="not a version"):
        make_run_token("s3cret", RUN, -1)
