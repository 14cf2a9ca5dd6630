"""A second start of a killed run's directory: when Prefect 3 wants one, and what of the first is kept."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from flowherd.engines.prefect3 import PREFECT3
from flowherd.host.store.run_directory import RunDirectory
from flowherd.states import RunState
from flowherd.values import StateReport
from flowherd_runner.contract import files, reasons
from flowherd_runner.contract.spec import RunLimits, RunSpec
from flowherd_runner.contract.variables import KIND_PREFECT3, KIND_PREFECT3_HOOKS

RUN = "3f0f9e3e-6a7c-4c34-9a39-0d0a8c5d2a10"
SPEC = RunSpec(flow_run_id=RUN, kind=KIND_PREFECT3, target={"flow_run_id": RUN})
BOTH = ("on_crashed_hooks", "on_cancellation_hooks")


def wanted(state: RunState, reason: str, killed: bool, hooks: tuple[str, ...] = BOTH) -> RunSpec | None:
    report = StateReport(flow_run_id=RUN, state=state, message="", at=datetime.now(timezone.utc), reason=reason)
    assert PREFECT3.after_end is not None
    return PREFECT3.after_end(SPEC, report, killed, hooks)


@pytest.mark.parametrize(
    ("state", "reason", "killed", "called"),
    [
        (RunState.FAILED, reasons.REASON_SIGNAL, True, True),
        (RunState.FAILED, reasons.REASON_LOST, True, True),
        (RunState.FAILED, reasons.REASON_EXITED, False, True),
        (RunState.FAILED, reasons.REASON_TIMEOUT, False, True),
        (RunState.FAILED, reasons.REASON_NOT_STARTED, False, False),
        (RunState.FAILED, reasons.REASON_EXCEPTION, False, False),
        (RunState.CANCELLED, reasons.REASON_CANCELLED, True, True),
        # It has unwound, and has called them itself.
        (RunState.CANCELLED, reasons.REASON_CANCELLED, False, False),
        (RunState.CANCELLED, reasons.REASON_AGENT_STOP, True, False),
    ],
)
def test_hooks_are_called_for_ends_that_the_process_could_not_live_through(
    state: RunState, reason: str, killed: bool, called: bool
) -> None:
    spec = wanted(state, reason, killed)
    assert (spec is not None) is called
    if spec is not None:
        assert spec == SPEC._replace(kind=KIND_PREFECT3_HOOKS, limits=RunLimits(run_time_s=600.0))
    assert wanted(state, reason, killed, ()) is None
    other = BOTH[0] if state is RunState.CANCELLED else BOTH[1]
    assert wanted(state, reason, killed, (other,)) is None


def test_a_second_start_keeps_the_log_and_the_end_of_the_first(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / RUN, RUN)
    os.close(directory.create(SPEC))
    end = {"reason": "signal", "grade": "proven"}
    for name in (files.STARTED_FILE, files.STOP_FILE, files.OUTBOX_FILE):
        files.write_json(str(directory.path), name, {})
    files.write_json(str(directory.path), files.EXIT_FILE, end)
    files.write_json(str(directory.path), files.AFTER_END_FILE, {"wanted": ["on_crashed_hooks", 1]})
    directory.journal.write_bytes(b"x" * 50)
    directory.set_forwarded(40)
    assert directory.after_end() == ("on_crashed_hooks",)
    second = SPEC._replace(kind=KIND_PREFECT3_HOOKS, agent=SPEC.agent._replace(after_end=True))
    os.close(directory.start_again(second))
    again = RunDirectory(tmp_path / RUN, RUN)
    assert again.spec() == second
    assert (again.started(), again.exit_record(), again.outbox().reports, again.after_end()) == (None, None, (), ())
    assert (again.forwarded(), again.unsent_bytes()) == (40, 10)
    files.write_json(str(directory.path), files.EXIT_FILE, {"reason": "exited"})
    again.restore_first_end()
    record = again.exit_record()
    assert record is not None and record["reason"] == "signal"
