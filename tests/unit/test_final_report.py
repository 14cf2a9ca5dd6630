"""What is reported of a run whose engine reports its states, by how its process ended and what the backend holds."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from flowherd.engines.final_report import outcome
from flowherd.host.store.run_directory import Outbox, RunDirectory
from flowherd.states import CLAIMABLE, FINISHED, RunState
from flowherd.values import RunAtBackend, StateReport
from flowherd_runner.contract import files, reasons

RUN_ID = "211f04ad-22d0-4ec2-a018-12f0f1e7774c"


def process_ended(state: RunState, message: str = "The flow process was killed.") -> StateReport:
    return StateReport(
        flow_run_id=RUN_ID,
        state=state,
        message=message,
        at=datetime.now(timezone.utc),
        reason=reasons.REASON_EXITED,
        grade=reasons.GRADE_PROVEN,
        of_process=True,
    )


WELL = process_ended(RunState.SUCCESS, "The flow process exited with code 0.")
BADLY = process_ended(RunState.FAILED)
STOPPED = process_ended(RunState.CANCELLED, "The flow run was cancelled.")


def standing(state: RunState, *waiting: RunState) -> RunAtBackend:
    return RunAtBackend(state=state, waiting=frozenset(waiting))


@pytest.mark.parametrize("ended", [WELL, BADLY, STOPPED])
@pytest.mark.parametrize("state", sorted(FINISHED))
def test_a_finished_run_is_not_reported_again(ended: StateReport, state: RunState) -> None:
    told = outcome(ended, standing(state))
    assert (told.report, told.state) == (None, state)


@pytest.mark.parametrize("ended", [WELL, BADLY, STOPPED])
def test_a_run_that_the_backend_does_not_know_any_more_is_not_reported(ended: StateReport) -> None:
    assert outcome(ended, None).report is None


@pytest.mark.parametrize("task", sorted(CLAIMABLE))
def test_a_process_that_ended_well_while_a_task_run_waits_left_its_run_waiting(task: RunState) -> None:
    told = outcome(WELL, standing(RunState.RUNNING, task))
    assert (told.report, told.state) == (None, task)


@pytest.mark.parametrize("state", sorted(CLAIMABLE))
def test_a_process_that_ended_well_while_its_flow_run_waits_left_it_waiting(state: RunState) -> None:
    assert outcome(WELL, standing(state)).report is None


@pytest.mark.parametrize("ended", [WELL, BADLY, STOPPED])
def test_a_run_that_was_queued_again_is_left_in_the_queue_however_its_process_ended(ended: StateReport) -> None:
    assert outcome(ended, standing(RunState.SCHEDULED)).report is None


@pytest.mark.parametrize("state", [RunState.SUBMITTED, RunState.RUNNING])
def test_a_process_that_ended_well_without_a_final_state_of_its_engine_failed(state: RunState) -> None:
    told = outcome(WELL, standing(state)).report
    assert told is not None and told.state is RunState.FAILED
    assert told.message.startswith(WELL.message) and "engine" in told.message


@pytest.mark.parametrize(
    "held",
    [
        standing(RunState.SUBMITTED),
        standing(RunState.RUNNING),
        standing(RunState.RUNNING, RunState.RETRYING),
        standing(RunState.QUEUED),
        standing(RunState.PAUSED),
    ],
)
def test_a_process_that_ended_badly_failed_with_its_cause_whatever_waits(held: RunAtBackend) -> None:
    assert outcome(BADLY, held).report == BADLY


@pytest.mark.parametrize("ended", [WELL, BADLY])
def test_a_run_that_was_being_cancelled_is_cancelled_however_its_process_ended(ended: StateReport) -> None:
    told = outcome(ended, standing(RunState.CANCELLING)).report
    assert told is not None and told.state is RunState.CANCELLED
    assert ended.message in told.message


@pytest.mark.parametrize("state", [RunState.SUBMITTED, RunState.RUNNING, RunState.CANCELLING])
def test_a_run_that_was_ended_as_cancelled_here_is_cancelled(state: RunState) -> None:
    assert outcome(STOPPED, standing(state)).report == STOPPED


class TestOutbox:
    @pytest.fixture
    def directory(self, tmp_path: Path) -> RunDirectory:
        path = tmp_path / RUN_ID
        path.mkdir()
        return RunDirectory(path, RUN_ID)

    def test_that_a_report_is_of_the_process_survives_on_disk(self, directory: RunDirectory) -> None:
        outbox = Outbox(reports=(BADLY,), final=True, state=RunState.FAILED)
        directory.write_outbox(outbox)
        assert directory.outbox() == outbox

    def test_a_report_without_that_mark_is_reported_unchanged(self, directory: RunDirectory) -> None:
        """Earlier releases wrote reports without it."""
        report = {"state": "Failed", "message": "x", "at": "2026-01-01T00:00:00+00:00"}
        content = {"reports": [report], "final": True, "state": "Failed"}
        files.write_json(str(directory.path), files.OUTBOX_FILE, content)
        assert not directory.outbox().reports[0].of_process

    def test_a_run_that_waits_for_its_next_start_is_over_here(self, directory: RunDirectory) -> None:
        directory.write_outbox(Outbox(final=True, state=RunState.RETRYING))
        assert directory.outbox().state is RunState.RETRYING
