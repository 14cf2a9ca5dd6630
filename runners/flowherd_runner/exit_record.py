"""Concludes from the facts of a run's end what exit.json says: reason, grade, evidence. Pure."""

import os
import signal
from typing import Any, Dict, NamedTuple, Optional, Tuple

from flowherd_runner.contract.oom import OomCount
from flowherd_runner.contract.reasons import (
    GRADE_PROBABLE,
    GRADE_PROVEN,
    REASON_EXCEPTION,
    REASON_EXITED,
    REASON_NOT_STARTED,
    REASON_OOM,
    REASON_SIGNAL,
)

_MAX_EVIDENCE_CHARS = 2000


class Stop(NamedTuple):
    """Why the runner ended the run."""

    reason: str
    evidence: str
    detail: Optional[str]
    grace_s: float


class End(NamedTuple):
    """What is known of the end of a flow process."""

    #: From waitpid(2); None when the flow process could not be ended and still lives.
    wait_status: Optional[int]
    #: CPU time of the flow process itself, seconds, from wait4(2).
    cpu_time_s: float
    #: Why the runner was ending the run; None when the flow process ended by itself.
    stop: Optional[Stop]
    not_started: Optional[str]
    exception: Optional[Dict[str, str]]
    #: Limit of RLIMIT_CPU, seconds; None for no limit.
    cpu_limit_s: Optional[int]
    #: The kernel's count of out-of-memory kills at the start and at the end; None when it cannot be read.
    oom_before: Optional[OomCount] = None
    oom_after: Optional[OomCount] = None


def describe_end(end: End) -> Dict[str, Any]:
    """Return the part of exit.json that says why: reason, grade, evidence, exit_code, signal, exception, detail."""
    reason, evidence = _reason(end)
    status = end.wait_status
    return {
        "reason": reason,
        "grade": GRADE_PROBABLE if reason == REASON_OOM and not _is_own(end) else GRADE_PROVEN,
        "evidence": evidence[:_MAX_EVIDENCE_CHARS],
        "exit_code": os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None,
        "signal": os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None,
        "exception": end.exception,
        "detail": end.stop.detail if end.stop else None,
    }


def _reason(end: End) -> Tuple[str, str]:
    if end.stop is not None:
        return end.stop.reason, "{}; {}".format(end.stop.evidence, describe_status(end.wait_status))
    if end.not_started is not None:
        return REASON_NOT_STARTED, end.not_started
    if os.WIFSIGNALED(_wait_status(end)):
        return REASON_OOM if _oom_kills(end) else REASON_SIGNAL, _signal_evidence(end)
    if end.exception is not None:
        return REASON_EXCEPTION, "{type}: {message}".format(**end.exception)
    return REASON_EXITED, describe_status(end.wait_status)


def _wait_status(end: End) -> int:
    assert end.wait_status is not None, "only a run that is to end is given up"
    return end.wait_status


def _signal_evidence(end: End) -> str:
    text = describe_status(end.wait_status) + "; flowherd did not send it"
    number = os.WTERMSIG(_wait_status(end))
    if end.cpu_limit_s is not None and _used_up(end, number):
        text += "; the process had used {:.1f} s of CPU time, its limit is {} s".format(end.cpu_time_s, end.cpu_limit_s)
    elif _oom_kills(end) and end.oom_before is not None and end.oom_after is not None:
        text += "; oom_kill in {} rose from {} to {} while the run was going".format(
            end.oom_after.source, end.oom_before.kills, end.oom_after.kills
        )
    return text


def _oom_kills(end: End) -> int:
    """How often the out-of-memory killer struck if it may have killed this process; else 0."""
    number = os.WTERMSIG(_wait_status(end))
    if number != signal.SIGKILL or end.oom_before is None or end.oom_after is None:
        return 0
    if end.oom_before.source != end.oom_after.source or (end.cpu_limit_s is not None and _used_up(end, number)):
        return 0
    return max(0, end.oom_after.kills - end.oom_before.kills)


def _is_own(end: End) -> bool:
    return end.oom_after is not None and end.oom_after.own


def _used_up(end: End, number: int) -> bool:
    """Whether the CPU limit explains the signal: SIGXCPU has no other source, SIGKILL (setrlimit(2)) has many."""
    assert end.cpu_limit_s is not None
    return number == signal.SIGXCPU or (number == signal.SIGKILL and end.cpu_time_s >= end.cpu_limit_s)


def describe_status(wait_status: Optional[int]) -> str:
    """Return a wait status in words."""
    if wait_status is None:
        return "the flow process could not be ended and still runs"
    if not os.WIFSIGNALED(wait_status):
        return "wait status: exited with code {}".format(os.WEXITSTATUS(wait_status))
    core = ", core dumped" if os.WCOREDUMP(wait_status) else ""
    return "wait status: killed by {}{}".format(signal_name(os.WTERMSIG(wait_status)), core)


def signal_name(number: int) -> str:
    """Return the name and number of a signal, as in "SIGKILL (9)"; the number alone when it has no name."""
    try:
        return "{} ({})".format(signal.Signals(number).name, number)
    except ValueError:
        return "signal {}".format(number)
