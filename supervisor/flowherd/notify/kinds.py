"""What a notification can be about."""

from __future__ import annotations

from enum import Enum
from typing import Literal, get_args

#: The same words, as a type of settings.
KindName = Literal[
    "failed", "recovered", "late", "missed", "stuck", "near-limit", "lost", "agent-away", "disk", "spool", "program"
]


class Kind(str, Enum):
    """What a notification can be about, by the word that rules name it by."""

    #: A flow's run ended badly, and the one before it had not, or for another reason.
    FAILED = "failed"
    #: Something that was notified is over: a flow that failed succeeds again, an agent is back, and so on.
    RECOVERED = "recovered"
    #: A run is due, and no agent has taken it.
    LATE = "late"
    #: Times of a schedule passed without a run, and none will be made up for them.
    MISSED = "missed"
    #: A run does nothing any more, or does not end although it was cancelled.
    STUCK = "stuck"
    #: A run needs nearly as much memory as it may.
    NEAR_LIMIT = "near-limit"
    #: A run ended without saying how: its processes or its host are gone.
    LOST = "lost"
    #: An agent was not heard of for a minute, and it was not stopped.
    AGENT_AWAY = "agent-away"
    #: A disk is nearly full.
    DISK = "disk"
    #: An agent has much output that the server does not have yet.
    SPOOL = "spool"
    #: A program that supervisord watches ended badly, or supervisord has given up starting it.
    PROGRAM = "program"

    __str__ = str.__str__


assert [kind.value for kind in Kind] == list(get_args(KindName))
#: How the end of a run can be bad.
BAD_ENDS = frozenset({Kind.FAILED, Kind.LOST})
