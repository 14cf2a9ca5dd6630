"""What a run's end means: from the runner's exit record, or from its absence, to a state and a true sentence."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowherd.states import RunState
from flowherd_runner.contract import reasons

#: What a person calls a signal that a program dies of.
_CRASHES = {
    signal.SIGSEGV: "segmentation fault",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "arithmetic error",
    signal.SIGILL: "illegal instruction",
    signal.SIGABRT: "abort",
}

#: A state's message is a sentence, not a dump; the whole text is in the run's log.
_MAX_WORDS = 4000
_MAX_REASON = 100


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a run ended: the state to report, the sentence to show, and what both rest on."""

    state: RunState
    message: str
    reason: str
    grade: str
    evidence: str = ""


def of_exit_record(record: Mapping[str, Any]) -> Verdict:
    """What the runner's exit.json says.

    Raises ValueError when the record does not have the contract's shape.
    """
    reason, grade = record.get("reason"), record.get("grade", reasons.GRADE_PROBABLE)
    evidence = _words(record.get("evidence"))
    if (
        not isinstance(reason, str)
        or not 0 < len(reason) <= _MAX_REASON
        or grade not in (reasons.GRADE_PROVEN, reasons.GRADE_PROBABLE)
    ):
        raise ValueError(f"exit record without a reason or grade: {dict(record)!r:.500}")
    if reason == reasons.REASON_EXITED and (type(record.get("exit_code")) is not int):
        raise ValueError(f"exit record without an exit code: {record.get('exit_code')!r:.100}")
    state, message = _state_and_message(reason, record, evidence)
    if grade == reasons.GRADE_PROBABLE and "probable" not in message:
        message = f"{message.rstrip('.')} (probable)."
    return Verdict(state=state, message=message, reason=reason, grade=grade, evidence=evidence)


def of_lost_runner(
    boot_id_then: str | None,
    boot_id_now: str,
    ended_processes: int,
    words: str = "",
    oom_kills: int | None = None,
) -> Verdict:
    """The runner is gone without a record: killed, broken (`words` are its complaint), or gone with its host.

    `oom_kills` is how often the kernel's out-of-memory killer has struck on this host since the run's start.
    """
    if boot_id_then is not None and boot_id_then != boot_id_now:
        return Verdict(
            state=RunState.FAILED,
            message="The host was restarted while the flow was running.",
            reason=reasons.REASON_REBOOT,
            grade=reasons.GRADE_PROVEN,
            evidence=f"boot id {boot_id_then} when it started, {boot_id_now} now",
        )
    rest = f" {ended_processes} of its processes were still there and were ended." if ended_processes else ""
    if words:
        return Verdict(
            state=RunState.FAILED,
            message=f"The runner of this flow run broke; how far the flow came is not known.{rest}",
            reason=reasons.REASON_LOST,
            grade=reasons.GRADE_PROVEN,
            evidence=f"the runner's own words: {words}",
        )
    if oom_kills:
        return Verdict(
            state=RunState.FAILED,
            message="The runner of this flow run was killed (probable: by the kernel's out-of-memory killer); "
            f"how far the flow came is not known.{rest}",
            reason=reasons.REASON_LOST,
            grade=reasons.GRADE_PROBABLE,
            evidence="the runner released its lock without an exit record; "
            f"oom_kill in /proc/vmstat rose by {oom_kills} since the start",
        )
    return Verdict(
        state=RunState.FAILED,
        message=f"The runner of this flow run was killed; how far the flow came is not known.{rest}",
        reason=reasons.REASON_LOST,
        grade=reasons.GRADE_PROVEN,
        evidence="the runner released its lock without an exit record",
    )


def of_damaged_record(damage: str, ended_processes: int) -> Verdict:
    """The run is over, and what was written about its end cannot be read."""
    rest = f" {ended_processes} of its processes were still there and were ended." if ended_processes else ""
    return Verdict(
        state=RunState.FAILED,
        message=f"The record of how the flow run ended is damaged; how it ended is not known.{rest}",
        reason=reasons.REASON_LOST,
        grade=reasons.GRADE_PROVEN,
        evidence=damage[:_MAX_WORDS],
    )


def of_forced_stop(reason: str, detail: str) -> Verdict:
    """We asked for the end, the runner did not manage it, and its whole tree was killed."""
    state = RunState.CANCELLED if reason in _CANCELS else RunState.FAILED
    message = f"{detail} The runner did not end in time and was killed with everything it had started."
    return Verdict(state=state, message=message, reason=reason, grade=reasons.GRADE_PROVEN, evidence="stop.json")


def of_failed_deployment(error: BaseException) -> Verdict:
    """The runner could not be started at all."""
    return Verdict(
        state=RunState.FAILED,
        message=str(error) or type(error).__name__,
        reason=reasons.REASON_NOT_STARTED,
        grade=reasons.GRADE_PROVEN,
        evidence=repr(error),
    )


_CANCELS = frozenset({reasons.REASON_CANCELLED, reasons.REASON_AGENT_STOP})


def _state_and_message(reason: str, record: Mapping[str, Any], evidence: str) -> tuple[RunState, str]:
    detail = _words(record.get("detail"))
    if reason == reasons.REASON_EXITED:
        code = record.get("exit_code")
        state = RunState.SUCCESS if code == 0 else RunState.FAILED
        return state, f"The flow process exited with code {code}."
    if reason == reasons.REASON_EXCEPTION:
        return RunState.FAILED, _exception(record.get("exception"))
    if reason == reasons.REASON_SIGNAL:
        return RunState.FAILED, _signal(record.get("signal"), evidence)
    if reason == reasons.REASON_OOM:
        return RunState.FAILED, _oom(record.get("grade") == reasons.GRADE_PROVEN)
    if reason == reasons.REASON_TERMINATED:
        return RunState.FAILED, f"The flow run was ended because {evidence}"
    if reason == reasons.REASON_NOT_STARTED:
        return RunState.FAILED, f"The flow was not started: {evidence}"
    if reason == reasons.REASON_CANCELLED:
        return RunState.CANCELLED, detail or "The flow run was cancelled."
    if reason == reasons.REASON_AGENT_STOP:
        return RunState.CANCELLED, detail or "The agent was stopped and ended its runs."
    if reason in (reasons.REASON_TIMEOUT, reasons.REASON_MEMORY, reasons.REASON_PROCESSES):
        return RunState.FAILED, detail or evidence
    return RunState.FAILED, detail or evidence or f"The flow run ended: {reason}."


def _words(value: object) -> str:
    """A text of the record, which has any length and may hold what UTF-8 cannot."""
    text = value if isinstance(value, str) else "" if value is None else f"{value!r:.200}"
    return text[:_MAX_WORDS].encode("utf-8", "backslashreplace").decode()


def _exception(exception: object) -> str:
    if not isinstance(exception, Mapping):
        return "The flow raised an exception."
    return f"{_words(exception.get('type'))}: {_words(exception.get('message'))}".rstrip(": ")


def _oom(proven: bool) -> str:
    if proven:
        return "The kernel's out-of-memory killer killed the flow process in the memory limit of its own cgroup."
    return (
        "The flow process was killed by SIGKILL, which flowherd did not send "
        "(probable: by the kernel's out-of-memory killer, which struck on this host while the run was going)."
    )


def _signal(number: object, evidence: str) -> str:
    try:
        name = signal.Signals(number)  # type: ignore[arg-type]
    except ValueError:
        return f"The flow process was killed by signal {number!r:.20}."
    if name in _CRASHES:
        return f"The flow process crashed: {name.name} ({_CRASHES[name]})."
    if name == signal.SIGXCPU:
        return f"The flow process used more CPU time than it may (SIGXCPU). {evidence}".rstrip()
    return f"The flow process was killed by {name.name}, which flowherd did not send."
