"""The phases of a run on its host, the events that change them, and the one table of which event leads where.

Every change of a run's phase goes through `after`; a pair that the table lacks raises and changes nothing. A phase says
what happens on this host; the state that the backend knows is flowherd.states' matter.
"""

from __future__ import annotations

from enum import Enum

from flowherd.errors import IllegalTransition


class RunPhase(Enum):
    """Where a run stands on this host."""

    #: Written down; nothing was started, and the agent holds the run's lock.
    PREPARED = "prepared"
    #: A fork server is asked for its runner; until that is over, the lock tells nothing.
    STARTING = "starting"
    #: A runner has it.
    RUNNING = "running"
    #: Its runner was asked to end it.
    STOPPING = "stopping"
    #: The runner did not end it in time, so the agent killed the tree.
    KILLED = "killed"
    #: Its runner could not be started.
    NOT_STARTED = "not started"
    #: Its end is concluded and in the outbox.
    ENDED = "ended"
    #: The backend knows its end.
    DELIVERED = "delivered"


class RunEvent(Enum):
    """What can happen to a run on this host."""

    START = "start"
    HAND_OVER = "hand over"
    FAIL_TO_START = "fail to start"
    STOP = "stop"
    KILL = "kill"
    END = "end"
    DELIVER = "deliver"


#: The runs that have not ended.
LIVING = frozenset(
    {
        RunPhase.PREPARED,
        RunPhase.STARTING,
        RunPhase.RUNNING,
        RunPhase.STOPPING,
        RunPhase.KILLED,
        RunPhase.NOT_STARTED,
    }
)

TRANSITIONS: dict[tuple[RunPhase, RunEvent], RunPhase] = {
    (RunPhase.PREPARED, RunEvent.START): RunPhase.STARTING,
    (RunPhase.PREPARED, RunEvent.FAIL_TO_START): RunPhase.NOT_STARTED,
    (RunPhase.STARTING, RunEvent.HAND_OVER): RunPhase.RUNNING,
    (RunPhase.STARTING, RunEvent.FAIL_TO_START): RunPhase.NOT_STARTED,
    (RunPhase.RUNNING, RunEvent.STOP): RunPhase.STOPPING,
    # A second request can only shorten the grace time.
    (RunPhase.STOPPING, RunEvent.STOP): RunPhase.STOPPING,
    (RunPhase.STOPPING, RunEvent.KILL): RunPhase.KILLED,
    # Killed again at each look until the lock is free: a process may have been forked meanwhile.
    (RunPhase.KILLED, RunEvent.KILL): RunPhase.KILLED,
    (RunPhase.RUNNING, RunEvent.END): RunPhase.ENDED,
    (RunPhase.STOPPING, RunEvent.END): RunPhase.ENDED,
    (RunPhase.KILLED, RunEvent.END): RunPhase.ENDED,
    (RunPhase.NOT_STARTED, RunEvent.END): RunPhase.ENDED,
    (RunPhase.ENDED, RunEvent.DELIVER): RunPhase.DELIVERED,
}


def after(phase: RunPhase, event: RunEvent) -> RunPhase:
    """Return the phase that `event` leads to from `phase`.

    Raises IllegalTransition when the table has no such pair; nothing has changed then.
    """
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise IllegalTransition(phase.value, event.value) from None
