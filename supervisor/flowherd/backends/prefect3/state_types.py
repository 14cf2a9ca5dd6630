"""Map Prefect 3's state types to flowherd's states and back; knows no request.

A state type says less than a state of flowherd: SCHEDULED and PAUSED each mean either that an agent has to start the
run or that its process is alive and waits. Which one it is decides whether the run may be started, and what it means
if its process dies.
"""

from __future__ import annotations

from flowherd.backends.prefect3.run_row import RunRow
from flowherd.states import SUCCESSFUL, UNSUCCESSFUL, RunState

SCHEDULED = "SCHEDULED"
PENDING = "PENDING"
RUNNING = "RUNNING"
PAUSED = "PAUSED"
CANCELLING = "CANCELLING"
CANCELLED = "CANCELLED"
COMPLETED = "COMPLETED"
FAILED = "FAILED"
CRASHED = "CRASHED"
#: State types of a run that has ended.
TERMINAL = frozenset({CANCELLED, COMPLETED, FAILED, CRASHED})

_STATE_OF_TYPE: dict[str, RunState] = {
    SCHEDULED: RunState.SCHEDULED,
    PENDING: RunState.SUBMITTED,
    RUNNING: RunState.RUNNING,
    PAUSED: RunState.PAUSED,
    CANCELLING: RunState.CANCELLING,
    CANCELLED: RunState.CANCELLED,
    COMPLETED: RunState.SUCCESS,
    FAILED: RunState.FAILED,
    CRASHED: RunState.FAILED,
}
#: States of those state names that say more than their type.
_STATE_OF_NAME: dict[tuple[str, str], RunState] = {
    (SCHEDULED, "Resuming"): RunState.RESUME,
    (FAILED, "TimedOut"): RunState.TIMED_OUT,
}

#: State type that the agent proposes to report a state. Running is missing: the run's own engine reports it, and the
#: server counts every Running as one more start. FAILED is not used: the server may answer it with a retry within the
#: process, which has ended, and then no agent would start the run again.
TYPE_OF_REPORT: dict[RunState, str] = {
    RunState.SUBMITTED: PENDING,
    RunState.CANCELLING: CANCELLING,
    RunState.CANCELLED: CANCELLED,
    **dict.fromkeys(SUCCESSFUL, COMPLETED),
    **dict.fromkeys(UNSUCCESSFUL, CRASHED),
}


def waits_in_process(row: RunRow) -> bool:
    """Whether the run waits for its next try or for a person within a process that must be alive."""
    if row.state_type == SCHEDULED:
        return row.retries_in_process
    return row.state_type == PAUSED and not row.suspended


def run_state(row: RunRow) -> RunState:
    """Return the run's state. Raises ValueError for an unknown state type."""
    if waits_in_process(row):
        return RunState.RUNNING
    try:
        return _STATE_OF_NAME.get((row.state_type, row.state_name)) or _STATE_OF_TYPE[row.state_type]
    except KeyError:
        raise ValueError(f"unknown state type: {row.state_type!r:.80}") from None
