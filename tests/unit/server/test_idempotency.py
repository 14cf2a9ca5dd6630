"""Recognising repeated reports: by token, by agent and time, by words and time."""

from __future__ import annotations

from typing import Any, cast

import pytest
from sqlalchemy import Connection, RowMapping

from flowherd.states import RunState
from flowherd_server.call import Call, Caller
from flowherd_server.mutations.idempotency import repeats_claim, repeats_start
from flowherd_server.mutations.state_reports import read_report
from flowherd_server.runs.state_history import FLOW_RUNS
from flowherd_server.store.microseconds import SECOND_US

AGENT = "00000000-0000-0000-0000-00000000000a"
OTHER = "00000000-0000-0000-0000-00000000000b"


def call(age_s: float, agent_id: str | None = None) -> Call:
    """Return a call at `age_s` seconds, for a run that entered its state at 0."""
    return Call(cast(Connection, None), Caller(agent_id), round(age_s * SECOND_US), 1)


def run(state: str, claim: str | None = None, version: int = 2, **serialized: Any) -> RowMapping:
    row = {"state": state, "version": version, "claim": claim, "state_timestamp": 0}
    return cast(RowMapping, {**row, "serialized_state": {"type": state, **serialized}})


def report(state: str, version: int | None = None, **more: Any) -> Any:
    given = {"flow_run_id": "x", "version": version, "state": {"type": state, **more}}
    return read_report(given, FLOW_RUNS, frozenset(RunState))


@pytest.mark.parametrize(
    ("age_s", "agent_id", "state", "repeats"),
    [
        (15, AGENT, "Submitted", True),
        (120, AGENT, "Submitted", True),
        (0.1, AGENT, "Submitted", False),  # another agent with the same id
        (8.5, AGENT, "Submitted", False),
        (200, AGENT, "Submitted", False),
        (15, AGENT, "Running", False),  # the first claim's answer arrived, and the run was started
        (15, OTHER, "Submitted", False),
        (15, None, "Submitted", False),
    ],
)
def test_a_claim_without_a_token_is_a_repetition_after_the_time_that_the_agent_waits_for_an_answer(
    age_s: float, agent_id: str | None, state: str, repeats: bool
) -> None:
    taken = run(state, f"agent:{AGENT}")
    assert repeats_claim(call(age_s, agent_id), taken, report("Submitted", 1)) is repeats


def test_a_claim_with_the_same_token_is_a_repetition_at_any_time() -> None:
    mine = report("Submitted", 1, context={"flowherd": {"claim": "mine"}})
    for age_s in (0, 1000):
        assert repeats_claim(call(age_s, AGENT), run("Submitted", "mine"), mine)
        assert repeats_claim(call(age_s), run("Running", "mine"), mine)
        assert not repeats_claim(call(age_s), run("Submitted", "theirs"), mine)
        assert not repeats_claim(call(age_s), run("Submitted"), report("Submitted", 1))
        assert not repeats_claim(call(age_s), run("Success", "mine"), mine)


@pytest.mark.parametrize(
    ("age_s", "version", "message", "state", "repeats"),
    [
        (0, 1, "m", "Running", True),
        (60, 1, "m", "Running", True),
        (70, 1, "m", "Running", False),
        (0, 2, "m", "Running", False),
        (0, 0, "m", "Running", False),
        (0, None, "m", "Running", False),
        (0, 1, "other", "Running", False),
        (0, 1, "m", "Retrying", False),
    ],
)
def test_a_start_is_a_repetition_if_it_is_the_same_word_for_word_and_comes_soon(
    age_s: float, version: int | None, message: str, state: str, repeats: bool
) -> None:
    started = run(state, version=2, message="m")
    assert repeats_start(call(age_s), started, report("Running", version, message=message)) is repeats
