"""The states of a flow run, the events that change them, and the table of transitions.

Names and families are those of the Prefect 0.x/1.x dialect (docs/design.md, section 6). Two rules: every change of a
flow run's state goes through `after`, and a pair that is not in the table raises and changes nothing.
"""

from __future__ import annotations

from enum import Enum

from flowherd.errors import IllegalTransition


class _Word(str, Enum):
    """A string enum that prints as its value on every Python (StrEnum needs 3.11, and format() changed in 3.12)."""

    __str__ = str.__str__


class RunState(_Word):
    """A flow run's state, under its name in the dialect."""

    PENDING = "Pending"
    SCHEDULED = "Scheduled"
    RETRYING = "Retrying"
    RESUME = "Resume"
    PAUSED = "Paused"
    QUEUED = "Queued"
    SUBMITTED = "Submitted"
    RUNNING = "Running"
    CANCELLING = "Cancelling"
    SUCCESS = "Success"
    SKIPPED = "Skipped"
    CACHED = "Cached"
    MAPPED = "Mapped"
    LOOPED = "Looped"
    FINISHED = "Finished"
    FAILED = "Failed"
    TIMED_OUT = "TimedOut"
    TRIGGER_FAILED = "TriggerFailed"
    VALIDATION_FAILED = "ValidationFailed"
    CANCELLED = "Cancelled"
    CLIENT_FAILED = "ClientFailed"


class Event(_Word):
    """What can happen to a flow run."""

    #: It is put (back) into the queue by a user, a schedule, or the server's rescue of a dead run.
    SCHEDULE = "schedule"
    #: An agent claims it.
    CLAIM = "claim"
    #: Its first line of user code is about to run.
    START = "start"
    #: It waits for its next try / waits for a free slot / waits for a person / a person lets it continue.
    RETRY = "retry"
    QUEUE = "queue"
    PAUSE = "pause"
    RESUME = "resume"
    #: A person asks for its end / it has ended because of that.
    REQUEST_CANCEL = "request_cancel"
    CANCEL = "cancel"
    #: The rules of its flow leave it out.
    SKIP = "skip"
    #: It ended by itself, successfully / unsuccessfully.
    SUCCEED = "succeed"
    FAIL = "fail"


#: States in which an agent may claim a run whose start time has come.
CLAIMABLE = frozenset({RunState.SCHEDULED, RunState.RETRYING, RunState.RESUME, RunState.PAUSED, RunState.QUEUED})
#: States in which a process of the run may be alive.
ACTIVE = frozenset({RunState.RUNNING, RunState.CANCELLING})
#: States in which an agent has the run.
TAKEN = ACTIVE | {RunState.SUBMITTED}
#: Success and the states that the dialect derives from it.
SUCCESSFUL = frozenset({RunState.SUCCESS, RunState.SKIPPED, RunState.CACHED, RunState.MAPPED})
#: Failed and the states that the dialect derives from it.
UNSUCCESSFUL = frozenset({RunState.FAILED, RunState.TIMED_OUT, RunState.TRIGGER_FAILED, RunState.VALIDATION_FAILED})
FINISHED = SUCCESSFUL | UNSUCCESSFUL | {RunState.CANCELLED, RunState.FINISHED, RunState.LOOPED}
#: States in which the run waits to be started.
WAITING = CLAIMABLE | {RunState.PENDING}
#: States in which no process of the run has reported a state yet.
UNSTARTED = WAITING | {RunState.SUBMITTED}
#: States in which the run may be started or put back to wait. A Running run may be started for a waiting task run.
STARTABLE = UNSTARTED | {RunState.RUNNING}
UNFINISHED = STARTABLE | {RunState.CANCELLING}


def _each(states: frozenset[RunState], event: Event, target: RunState) -> dict[tuple[RunState, Event], RunState]:
    return {(state, event): target for state in states}


TRANSITIONS: dict[tuple[RunState, Event], RunState] = {
    **_each(STARTABLE | FINISHED, Event.SCHEDULE, RunState.SCHEDULED),
    **_each(CLAIMABLE, Event.CLAIM, RunState.SUBMITTED),
    **_each(STARTABLE, Event.START, RunState.RUNNING),
    **_each(STARTABLE, Event.RETRY, RunState.RETRYING),
    **_each(STARTABLE, Event.QUEUE, RunState.QUEUED),
    **_each(STARTABLE, Event.PAUSE, RunState.PAUSED),
    **_each(frozenset({RunState.PAUSED}), Event.RESUME, RunState.RESUME),
    **_each(ACTIVE, Event.REQUEST_CANCEL, RunState.CANCELLING),
    # The flow process reports no state yet, so there is nothing to wait for.
    **_each(UNSTARTED, Event.REQUEST_CANCEL, RunState.CANCELLED),
    **_each(UNFINISHED, Event.CANCEL, RunState.CANCELLED),
    **_each(CLAIMABLE, Event.SKIP, RunState.SKIPPED),
    # A run that ends by itself while its cancellation is under way has ended by itself, and its state says so.
    **_each(TAKEN, Event.SUCCEED, RunState.SUCCESS),
    **_each(UNFINISHED, Event.FAIL, RunState.FAILED),
}

#: The event that a report of each state stands for; the dialect's other states belong to task runs.
EVENT_OF_REPORT: dict[RunState, Event] = {
    RunState.SCHEDULED: Event.SCHEDULE,
    RunState.SUBMITTED: Event.CLAIM,
    RunState.RUNNING: Event.START,
    RunState.RETRYING: Event.RETRY,
    RunState.QUEUED: Event.QUEUE,
    RunState.PAUSED: Event.PAUSE,
    RunState.RESUME: Event.RESUME,
    RunState.CANCELLING: Event.REQUEST_CANCEL,
    RunState.CANCELLED: Event.CANCEL,
    **dict.fromkeys(SUCCESSFUL, Event.SUCCEED),
    **dict.fromkeys(UNSUCCESSFUL, Event.FAIL),
}


def after(state: RunState, event: Event) -> RunState:
    """Return the state that `event` leads to from `state`.

    Raises IllegalTransition if the table has no such pair.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(state, event) from None
