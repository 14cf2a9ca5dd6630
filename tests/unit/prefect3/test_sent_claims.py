"""Claims whose outcome is not known are known to the next process on the same state directory."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from flowherd.backends.prefect3.sent_claims import FILE, LATE_CLAIM_S, SentClaims

RUN, CLAIM = str(uuid.uuid4()), uuid.uuid4()


def test_a_claim_is_waited_for_until_it_is_given_up_or_forgotten(tmp_path: Path) -> None:
    for claims in (SentClaims(), SentClaims(tmp_path, "here"), SentClaims(tmp_path / "missing", "here")):
        claims.add(RUN, CLAIM, "state")
        waiting = claims.waiting(RUN)
        assert waiting is not None and (waiting.claim_id, waiting.state_id) == (str(CLAIM), "state")
        assert claims.given_up() == []
        claims.give_up(RUN)
        assert claims.waiting(RUN) is None
        assert [one.run_id for one in claims.given_up()] == [RUN]
        claims.forget(RUN)
        assert claims.given_up() == []


def test_what_an_earlier_process_has_sent_is_given_up_and_also_expired_claims_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SentClaims(tmp_path, "here").add(RUN, CLAIM, "state")
    (claim,) = SentClaims(tmp_path, "here").given_up()
    assert (claim.run_id, claim.claim_id, claim.state_id, claim.is_over) == (RUN, str(CLAIM), "state", False)
    monkeypatch.setattr("time.time", lambda: claim.at + LATE_CLAIM_S + 1)
    assert [one.is_over for one in SentClaims(tmp_path, "here").given_up()] == [True]
    assert SentClaims(tmp_path, "elsewhere").given_up() == [], "another server knows nothing of them"


@pytest.mark.parametrize("content", ["", "[]", '{"contract": 1, "address": "here", "claims": [{"run_id": "../x"}]}'])
def test_a_damaged_file_costs_no_more_than_what_it_named(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    claims = SentClaims(tmp_path, "here")
    assert claims.given_up() == []
    claims.add(RUN, CLAIM, "")
    assert len(SentClaims(tmp_path, "here").given_up()) == 1
