"""The states of a flow run, the events that change them, and the one table of which event moves which to which.

Names and families are those of the Prefect 0.x/1.x dialect (docs/design.md, section 6). Two rules stand above the
table: every change of a flow run's state goes through `after`, and an illegal pair raises and changes nothing.
This module knows no process, no backend and no clock.
"""

from __future__ import annotations

from enum import Enum

from flowherd.errors import IllegalTransition


class _Word(str, Enum):
    """A member that prints as its value on every Python (StrEnum is 3.11's, and format() changed in 3.12)."""

    __str__ = str.__str__


class RunState(_Word):
    """A state by the name that the dialect gives it."""

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

    #: Somebody puts it (back) into the queue: a user, a schedule, the server's rescue of a dead run.
    SCHEDULE = "schedule"
    #: An agent takes it.
    CLAIM = "claim"
    #: Its first user code is about to run.
    START = "start"
    #: It waits for its next try / for a free slot / for a person / is let go on by a person.
    RETRY = "retry"
    QUEUE = "queue"
    PAUSE = "pause"
    RESUME = "resume"
    #: A person asks for its end / it ended because of that.
    REQUEST_CANCEL = "request_cancel"
    CANCEL = "cancel"
    #: It ended by itself, well or badly.
    SUCCEED = "succeed"
    FAIL = "fail"


#: May be taken by an agent once its start time has come.
CLAIMABLE = frozenset({RunState.SCHEDULED, RunState.RETRYING, RunState.RESUME, RunState.PAUSED, RunState.QUEUED})
#: A process of it may be alive.
ACTIVE = frozenset({RunState.RUNNING, RunState.CANCELLING})
#: Ended well: Success and what the dialect derives from it.
SUCCESSFUL = frozenset({RunState.SUCCESS, RunState.SKIPPED, RunState.CACHED, RunState.MAPPED})
#: Ended badly: Failed and what the dialect derives from it.
UNSUCCESSFUL = frozenset({RunState.FAILED, RunState.TIMED_OUT, RunState.TRIGGER_FAILED, RunState.VALIDATION_FAILED})
FINISHED = SUCCESSFUL | UNSUCCESSFUL | {RunState.CANCELLED, RunState.FINISHED, RunState.LOOPED}
#: Waiting for somebody to start it.
WAITING = CLAIMABLE | {RunState.PENDING}
_UNFINISHED = WAITING | ACTIVE | {RunState.SUBMITTED}


def _each(states: frozenset[RunState], event: Event, target: RunState) -> dict[tuple[RunState, Event], RunState]:
    return {(state, event): target for state in states}


TRANSITIONS: dict[tuple[RunState, Event], RunState] = {
    **_each(WAITING | FINISHED | {RunState.SUBMITTED, RunState.RUNNING}, Event.SCHEDULE, RunState.SCHEDULED),
    **_each(CLAIMABLE, Event.CLAIM, RunState.SUBMITTED),
    **_each(WAITING | {RunState.SUBMITTED, RunState.RUNNING}, Event.START, RunState.RUNNING),
    **_each(WAITING | {RunState.SUBMITTED, RunState.RUNNING}, Event.RETRY, RunState.RETRYING),
    **_each(WAITING | {RunState.SUBMITTED, RunState.RUNNING}, Event.QUEUE, RunState.QUEUED),
    **_each(WAITING | {RunState.SUBMITTED, RunState.RUNNING}, Event.PAUSE, RunState.PAUSED),
    **_each(frozenset({RunState.PAUSED}), Event.RESUME, RunState.RESUME),
    **_each(ACTIVE, Event.REQUEST_CANCEL, RunState.CANCELLING),
    # Nothing of it runs under a state of its own yet, so there is nobody to wait for.
    **_each(WAITING | {RunState.SUBMITTED}, Event.REQUEST_CANCEL, RunState.CANCELLED),
    **_each(_UNFINISHED, Event.CANCEL, RunState.CANCELLED),
    # A run that ends by itself while somebody asks for its end has ended by itself: the state says what is true.
    **_each(ACTIVE | {RunState.SUBMITTED}, Event.SUCCEED, RunState.SUCCESS),
    **_each(_UNFINISHED, Event.FAIL, RunState.FAILED),
}

#: Which event a report of this state stands for; the rest of the dialect's names belong to task runs.
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
    """The state that `event` leads to from `state`.

    Raises IllegalTransition when the table has no such pair; nothing has changed then.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(state, event) from None
