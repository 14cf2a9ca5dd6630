"""Prefect 3's types of state and flowherd's states, one table for each way. Knows no request.

A type of Prefect 3's says less than a state of ours: two of them stand both for "somebody has to start it" and for
"its process waits", and which of them it is decides whether the run may be started and what its process's death means.
"""

from __future__ import annotations

from flowherd.backends.prefect3.rows import RunRow
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
#: Nothing of the run runs or waits any more.
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
#: Names that say more than their type.
_STATE_OF_NAME: dict[tuple[str, str], RunState] = {
    (SCHEDULED, "Resuming"): RunState.RESUME,
    (FAILED, "TimedOut"): RunState.TIMED_OUT,
}

#: What the agent proposes when it reports a state. Running is not among them: the run's own engine says it, and the
#: server counts every Running as one more start. Nor is FAILED: from Running the server may answer it with a retry
#: within a process that is no more, and then nobody starts the run again.
TYPE_OF_REPORT: dict[RunState, str] = {
    RunState.SUBMITTED: PENDING,
    RunState.CANCELLING: CANCELLING,
    RunState.CANCELLED: CANCELLED,
    **dict.fromkeys(SUCCESSFUL, COMPLETED),
    **dict.fromkeys(UNSUCCESSFUL, CRASHED),
}


def waits_in_process(row: RunRow) -> bool:
    """Whether the run waits, for its next try or for a person, within a process that must be alive."""
    if row.state_type == SCHEDULED:
        return row.retries_in_process
    return row.state_type == PAUSED and not row.suspended


def run_state(row: RunRow) -> RunState:
    """The run's state in our words. Raises ValueError for a type that is none of Prefect 3's."""
    if waits_in_process(row):
        return RunState.RUNNING
    try:
        return _STATE_OF_NAME.get((row.state_type, row.state_name)) or _STATE_OF_TYPE[row.state_type]
    except KeyError:
        raise ValueError(f"no type of state: {row.state_type!r:.80}") from None
