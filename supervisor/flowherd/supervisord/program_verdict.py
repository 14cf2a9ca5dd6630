"""What became of a program, from all that is known of its end: reason, grade, evidence and a sentence. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from flowherd.programs.entry import BACKOFF, EXITED, FATAL, RUNNING, STOPPED, UNKNOWN_SIGNAL, ProgramEntry
from flowherd_runner.contract import reasons

#: Reason of a stop that somebody asked supervisord for.
REASON_STOPPED = "stopped"
#: Reason of a program that supervisord does not start any more.
REASON_GIVEN_UP = "given_up"
_STATES = {
    "PROCESS_STATE_RUNNING": RUNNING,
    "PROCESS_STATE_EXITED": EXITED,
    "PROCESS_STATE_STOPPED": STOPPED,
    "PROCESS_STATE_BACKOFF": BACKOFF,
    "PROCESS_STATE_FATAL": FATAL,
}


@dataclass(frozen=True, kw_only=True)
class KnownEnd:
    """What is known of the end of a process; None or empty for what is not."""

    pid: int | None = None
    started: float | None = None
    #: When it ended, or what else has happened, seconds since the epoch.
    at: float | None = None
    #: The exit code; -1 for a signal, as supervisord has it.
    exit_code: int | None = None
    #: Name of the signal.
    signal: str = ""
    #: Where that is from, in words; and whether it is certain that it is about this process.
    source: str = ""
    is_certain: bool = True
    #: Why it could not be started.
    spawn_error: str = ""
    #: Whether supervisord itself sent SIGKILL, because the program did not stop in time.
    was_killed_by_supervisord: bool = False


@dataclass(frozen=True, kw_only=True)
class OomKills:
    """What the kernel's counters say of out-of-memory kills since the program started."""

    kills: int = 0
    #: The file with the counter.
    source: str = ""
    #: Whether the counter is about this program alone.
    is_own: bool = False


def what_of(event_name: str) -> str | None:
    """Return the word of an entry for an event of supervisord; None if it is not logged."""
    return _STATES.get(event_name)


def entry_of(
    what: str, program: str, at: float, expected: bool | None, end: KnownEnd, oom: OomKills = OomKills()
) -> ProgramEntry:
    """Return the entry for an event."""
    reason, grade, evidence, message = _judged(what, program, expected, end, oom)
    is_end = what not in (RUNNING, FATAL)
    return ProgramEntry(
        at=end.at or at,
        program=program,
        what=what,
        message=message,
        pid=end.pid or None,
        started=end.started or None,
        expected=expected if what == EXITED else None,
        exit_code=end.exit_code if is_end and end.exit_code != -1 else None,
        signal=_signal(end) or None if is_end else None,
        reason=reason,
        grade=grade,
        evidence=evidence,
    )


def _signal(end: KnownEnd) -> str:
    return end.signal or (UNKNOWN_SIGNAL if end.exit_code == -1 else "")


def _judged(
    what: str, program: str, expected: bool | None, end: KnownEnd, oom: OomKills
) -> tuple[str | None, str | None, str, str]:
    if what == RUNNING:
        return None, None, "", f"{program} is running."
    if what == FATAL:
        text = f"supervisord has given up starting {program} (FATAL); `supervisorctl start {program}` tries again."
        return REASON_GIVEN_UP, reasons.GRADE_PROVEN, "the event PROCESS_STATE_FATAL", text
    if end.spawn_error:
        text = f"{program} could not be started: {end.spawn_error}."
        return reasons.REASON_NOT_STARTED, reasons.GRADE_PROVEN, "supervisord's own error", text
    grade = reasons.GRADE_PROVEN if end.is_certain else reasons.GRADE_PROBABLE
    if what == STOPPED:
        return REASON_STOPPED, reasons.GRADE_PROVEN, _stop_evidence(end), f"{program} was stopped{_how(end)}."
    if _signal(end):
        return _by_signal(what, program, end, oom, grade)
    return _by_exit(what, program, expected, end, grade)


def _stop_evidence(end: KnownEnd) -> str:
    asked = "supervisord was asked to stop it"
    if end.was_killed_by_supervisord:
        return f"{asked}, and killed it because it had not ended after stopwaitsecs"
    return asked


def _how(end: KnownEnd) -> str:
    if end.was_killed_by_supervisord:
        return " by SIGKILL, because it had not ended after stopwaitsecs"
    if end.signal:
        return f" and ended by {end.signal}"
    if end.exit_code == -1:
        return " and ended by a signal"
    return "" if end.exit_code is None else f" and exited with code {end.exit_code}"


def _by_signal(
    what: str, program: str, end: KnownEnd, oom: OomKills, grade: str
) -> tuple[str | None, str | None, str, str]:
    signal, evidence, when = end.signal or "a signal, not known which", end.source, _when(what)
    if oom.kills and end.signal in ("", "SIGKILL") and not end.was_killed_by_supervisord:
        evidence = "; ".join(
            part
            for part in (evidence, f"oom_kill in {oom.source} rose by {oom.kills} since the program started")
            if part
        )
        if oom.is_own and end.signal and end.is_certain:
            text = f"The kernel's out-of-memory killer killed {program} at the memory limit of its own cgroup{when}."
            return reasons.REASON_OOM, reasons.GRADE_PROVEN, evidence, text
        where = "in its cgroup" if oom.is_own else "on this host"
        text = (
            f"{program} was killed by {signal}{when} (probable: by the kernel's out-of-memory killer, which killed a "
            f"process {where} meanwhile)."
        )
        return reasons.REASON_OOM, reasons.GRADE_PROBABLE, evidence, text
    return reasons.REASON_SIGNAL, grade, evidence, _graded(f"{program} was killed by {signal}{when}", grade)


def _by_exit(
    what: str, program: str, expected: bool | None, end: KnownEnd, grade: str
) -> tuple[str | None, str | None, str, str]:
    if end.exit_code is None:
        known = "as expected" if expected else "unexpectedly"
        text = f"{program} ended{_when(what)}" if what == BACKOFF else f"{program} ended {known}"
        return None, None, "", f"{text}; its exit code is not known."
    text = f"{program} exited with code {end.exit_code}"
    if what == EXITED:
        text += ", which is one of its exitcodes" if expected else ", which is none of its exitcodes"
    return reasons.REASON_EXITED, grade, end.source, _graded(text + _when(what), grade)


def _when(what: str) -> str:
    return " before its startsecs had passed" if what == BACKOFF else ""


def _graded(text: str, grade: str) -> str:
    return f"{text} (probable)." if grade == reasons.GRADE_PROBABLE else f"{text}."
