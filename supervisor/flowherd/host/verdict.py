"""Says how a run ended: derives state, message and evidence from the runner's exit record, or from its absence."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowherd.end_figures import known_figures
from flowherd.host.store.runner_errors import last_error
from flowherd.phase_times import known_phases
from flowherd.shown_text import storable
from flowherd.states import RunState
from flowherd_runner.contract import reasons

#: Common names of the signals that a crashing program dies of.
_CRASHES = {
    signal.SIGSEGV: "segmentation fault",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "arithmetic error",
    signal.SIGILL: "illegal instruction",
    signal.SIGABRT: "abort",
}

#: Longest text taken from a record, characters. The run's log has the whole text.
_MAX_TEXT = 4000
#: Longest valid reason, characters.
_MAX_REASON = 100

_GRADES = (reasons.GRADE_PROVEN, reasons.GRADE_PROBABLE)
#: Reasons that make a run Cancelled instead of Failed.
_CANCELLING = frozenset({reasons.REASON_CANCELLED, reasons.REASON_AGENT_STOP})


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a run ended: the state to report, the message for people, and the evidence for both."""

    state: RunState
    message: str
    reason: str
    grade: str
    evidence: str = ""
    #: As of a StateReport.
    phases: tuple[tuple[str, float], ...] = ()
    figures: tuple[tuple[str, float], ...] = ()
    account: Mapping[str, Any] | None = None

    def marks(self) -> dict[str, Any]:
        """Return what a report says of the cause, of the times and of what was used."""
        names = ("reason", "grade", "phases", "figures", "account")
        return {name: getattr(self, name) for name in names}


def of_exit_record(record: Mapping[str, Any]) -> Verdict:
    """Return the verdict on a run whose runner wrote exit.json.

    Raises ValueError if the record does not follow the contract.
    """
    reason, grade = _reason_and_grade(record)
    evidence = _text(record.get("evidence"))
    message = _message(reason, record, evidence)
    if grade == reasons.GRADE_PROBABLE and "probable" not in message:
        message = f"{message.rstrip('.')} (probable)."
    state = _state(reason, record.get("exit_code"))
    phases, figures = known_phases(record.get("phases")), known_figures(record)
    return Verdict(
        state=state, message=message, reason=reason, grade=grade, evidence=evidence, phases=phases, figures=figures
    )


def of_lost_runner(
    boot_id_then: str | None,
    boot_id_now: str,
    killed_processes: int,
    complaint: str = "",
    oom_kills: int | None = None,
) -> Verdict:
    """Return the verdict on a run whose runner ended without a record: killed, failed, or gone with its host.

    `complaint` is what the runner wrote about its own failure. `oom_kills` is the number of processes on this host that
    the kernel's out-of-memory killer has killed since the run's start.
    """
    if boot_id_then is not None and boot_id_then != boot_id_now:
        message = "The host was restarted while the flow was running."
        evidence = f"boot id {boot_id_then} when it started, {boot_id_now} now"
        return _failed(message, reasons.REASON_REBOOT, evidence)
    unknown = f"how far the flow got is unknown.{_killed(killed_processes)}"
    if complaint:
        message = f"The runner of this flow run failed: {last_error(complaint)}; {unknown}"
        return _failed(message, reasons.REASON_LOST, f"the runner wrote: {complaint}")
    evidence = "the runner released its lock without an exit record"
    if oom_kills:
        return _failed(
            "The runner of this flow run was killed (probable: by the kernel's out-of-memory killer); " + unknown,
            reasons.REASON_LOST,
            f"{evidence}; oom_kill in /proc/vmstat rose by {oom_kills} since the start",
            grade=reasons.GRADE_PROBABLE,
        )
    return _failed(f"The runner of this flow run was killed; {unknown}", reasons.REASON_LOST, evidence)


def of_damaged_record(damage: str, killed_processes: int) -> Verdict:
    """Return the verdict on a run that has ended and whose exit record cannot be read."""
    message = f"The flow run's exit record is damaged; how the run ended is unknown.{_killed(killed_processes)}"
    return _failed(message, reasons.REASON_LOST, damage[:_MAX_TEXT])


def of_forced_stop(reason: str, detail: str, *, all_ended: bool) -> Verdict:
    """Return the verdict on a run that the agent killed, because its runner did not end it when asked.

    `all_ended`: no process of the run was found after the killing.
    """
    others = " with everything it had started" if all_ended else ""
    message = f"{detail} The runner did not end in time and was killed{others}."
    return Verdict(
        state=RunState.CANCELLED if reason in _CANCELLING else RunState.FAILED,
        message=message,
        reason=reason,
        grade=reasons.GRADE_PROVEN,
        evidence="stop.json",
    )


def of_failed_deployment(error: BaseException) -> Verdict:
    """Return the verdict on a run whose runner could not be started."""
    return _failed(str(error) or type(error).__name__, reasons.REASON_NOT_STARTED, repr(error))


def with_addition(verdict: Verdict, sentence: str) -> Verdict:
    """Return the verdict with a sentence added to its message; unchanged if that is empty."""
    if not sentence:
        return verdict
    text = verdict.message if verdict.message.endswith((".", "!", "?")) else f"{verdict.message}."
    return replace(verdict, message=f"{text} {sentence}")


def _failed(message: str, reason: str, evidence: str, grade: str = reasons.GRADE_PROVEN) -> Verdict:
    return Verdict(state=RunState.FAILED, message=message, reason=reason, grade=grade, evidence=evidence)


def _killed(processes: int) -> str:
    return f" {processes} of its processes were still alive and were killed." if processes else ""


def _reason_and_grade(record: Mapping[str, Any]) -> tuple[str, str]:
    reason, grade = record.get("reason"), record.get("grade", reasons.GRADE_PROBABLE)
    if not isinstance(reason, str) or not 0 < len(reason) <= _MAX_REASON or grade not in _GRADES:
        raise ValueError(f"exit record without a valid reason and grade: {dict(record)!r:.500}")
    if reason == reasons.REASON_EXITED and type(record.get("exit_code")) is not int:
        raise ValueError(f"exit record without an exit code: {record.get('exit_code')!r:.100}")
    return reason, grade


def _state(reason: str, exit_code: object) -> RunState:
    if reason in _CANCELLING:
        return RunState.CANCELLED
    return RunState.SUCCESS if reason == reasons.REASON_EXITED and exit_code == 0 else RunState.FAILED


def _message(reason: str, record: Mapping[str, Any], evidence: str) -> str:
    describe = _MESSAGES.get(reason)
    if describe is not None:
        return describe(record, evidence)
    return _text(record.get("detail")) or evidence or f"The flow run ended: {reason}."


def _exited(record: Mapping[str, Any], _evidence: str) -> str:
    return f"The flow process exited with code {record.get('exit_code')}."


def _raised(record: Mapping[str, Any], _evidence: str) -> str:
    exception = record.get("exception")
    if not isinstance(exception, Mapping):
        return "The flow raised an exception."
    return f"{_text(exception.get('type'))}: {_text(exception.get('message'))}".rstrip(": ")


def _signalled(record: Mapping[str, Any], evidence: str) -> str:
    number = record.get("signal")
    try:
        name = signal.Signals(number)  # type: ignore[arg-type]
    except ValueError:
        return f"The flow process was killed by signal {number!r:.20}."
    if name in _CRASHES:
        return f"The flow process crashed: {name.name} ({_CRASHES[name]})."
    if name == signal.SIGXCPU:
        return f"The flow process exceeded its CPU time limit (SIGXCPU). {evidence}".rstrip()
    return f"The flow process was killed by {name.name}, which flowherd did not send."


def _out_of_memory(record: Mapping[str, Any], _evidence: str) -> str:
    if record.get("grade") == reasons.GRADE_PROVEN:
        return "The kernel's out-of-memory killer killed the flow process at the memory limit of its own cgroup."
    return (
        "The flow process was killed by SIGKILL, which flowherd did not send "
        "(probable: by the kernel's out-of-memory killer, which killed a process on this host during the run)."
    )


def _terminated(_record: Mapping[str, Any], evidence: str) -> str:
    return f"The flow run was ended because {evidence}"


def _not_started(_record: Mapping[str, Any], evidence: str) -> str:
    return f"The flow was not started: {evidence}"


def _cancelled(record: Mapping[str, Any], _evidence: str) -> str:
    return _text(record.get("detail")) or "The flow run was cancelled."


def _agent_stopped(record: Mapping[str, Any], _evidence: str) -> str:
    return _text(record.get("detail")) or "The agent was stopped and ended its runs."


#: Functions that describe a record by its reason. Other reasons explain themselves in the record's detail or evidence.
_MESSAGES: Mapping[str, Callable[[Mapping[str, Any], str], str]] = {
    reasons.REASON_EXITED: _exited,
    reasons.REASON_EXCEPTION: _raised,
    reasons.REASON_SIGNAL: _signalled,
    reasons.REASON_OOM: _out_of_memory,
    reasons.REASON_TERMINATED: _terminated,
    reasons.REASON_NOT_STARTED: _not_started,
    reasons.REASON_CANCELLED: _cancelled,
    reasons.REASON_AGENT_STOP: _agent_stopped,
}


def _text(value: object) -> str:
    """Return a value of the record as text: shortened, and without what a backend refuses to store."""
    text = value if isinstance(value, str) else "" if value is None else f"{value!r:.200}"
    return storable(text[:_MAX_TEXT])
