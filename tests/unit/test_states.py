"""The table of a flow run's states allows what the dialect allows, and nothing else."""

from __future__ import annotations

import itertools

import pytest

from flowherd.errors import IllegalTransition
from flowherd.states import (
    ACTIVE,
    CLAIMABLE,
    EVENT_OF_REPORT,
    FINISHED,
    SUCCESSFUL,
    TRANSITIONS,
    UNSUCCESSFUL,
    Event,
    RunState,
    after,
)


def test_a_run_goes_from_scheduled_to_success() -> None:
    state = RunState.SCHEDULED
    for event in (Event.CLAIM, Event.START, Event.SUCCEED):
        state = after(state, event)
    assert state is RunState.SUCCESS


@pytest.mark.parametrize("state", sorted(FINISHED))
def test_a_finished_run_changes_only_when_it_is_scheduled_again(state: RunState) -> None:
    possible = {event for event in Event if (state, event) in TRANSITIONS}
    assert possible == {Event.SCHEDULE}


@pytest.mark.parametrize("state", sorted(CLAIMABLE))
def test_only_a_claimable_run_can_be_claimed(state: RunState) -> None:
    assert after(state, Event.CLAIM) is RunState.SUBMITTED
    for other in set(RunState) - CLAIMABLE:
        with pytest.raises(IllegalTransition):
            after(other, Event.CLAIM)


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_cancelling_a_run_with_processes_waits_for_them(state: RunState) -> None:
    assert after(state, Event.REQUEST_CANCEL) is RunState.CANCELLING


@pytest.mark.parametrize("state", sorted(CLAIMABLE | {RunState.PENDING, RunState.SUBMITTED}))
def test_cancelling_a_run_without_processes_is_immediate(state: RunState) -> None:
    assert after(state, Event.REQUEST_CANCEL) is RunState.CANCELLED


@pytest.mark.parametrize("state", sorted(ACTIVE | CLAIMABLE | {RunState.SUBMITTED, RunState.PENDING}))
def test_every_unfinished_run_can_fail_and_be_cancelled(state: RunState) -> None:
    assert after(state, Event.FAIL) is RunState.FAILED
    assert after(state, Event.CANCEL) is RunState.CANCELLED


def test_an_illegal_pair_names_state_and_event() -> None:
    with pytest.raises(IllegalTransition) as caught:
        after(RunState.SUCCESS, Event.START)
    assert (caught.value.state, caught.value.event) == ("Success", "start")


def test_a_report_of_any_success_or_failure_stands_for_one_event() -> None:
    assert {EVENT_OF_REPORT[state] for state in SUCCESSFUL} == {Event.SUCCEED}
    assert {EVENT_OF_REPORT[state] for state in UNSUCCESSFUL} == {Event.FAIL}


def test_every_event_leads_to_a_run_state() -> None:
    assert all(isinstance(target, RunState) for target in TRANSITIONS.values())


@pytest.mark.parametrize("word", list(itertools.chain(RunState, Event)))
def test_states_and_events_print_as_the_dialect_writes_them(word: RunState | Event) -> None:
    assert f"{word}" == str(word) == word.value
