"""Attempts: what the end of a run that may be tried again leads to, in the transaction that takes the end.

Each attempt that has ended is a row of flow_run_attempt. It also tells an end that is reported again, because its
answer was lost, from the end of the next attempt, which the same agent may have claimed under the same token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from flowherd.end_figures import known_figures
from flowherd.flow_rules import FlowRules
from flowherd.phase_times import known_phases
from flowherd.states import UNSUCCESSFUL, RunState
from flowherd_runner.contract import reasons
from flowherd_server.call import Call
from flowherd_server.rules.settle import rules_of
from flowherd_server.runs.new_state import NewState, plain_state
from flowherd_server.store.log_lines import NewLine, store_lines
from flowherd_server.store.microseconds import SECOND_US, format_time
from flowherd_server.store.plain import StoredRow, insert_row, plain
from flowherd_server.store.tables import FLOW_RUN_ATTEMPT

#: Where agents of 0.1.0 say the exit code.
_EXITED = re.compile(r"exited with code (\d{1,3})\b")
_KNOWN = "SELECT 1 FROM flow_run_attempt WHERE flow_run_id = ? AND claim = ? AND reported_end = ?"
#: When the flow process of the present attempt was reported to run.
_STARTED = (
    "SELECT min(timestamp) FROM run_state WHERE run = ? AND state = 'Running' AND version > "
    "(SELECT coalesce(max(version), 0) FROM flow_run_attempt WHERE flow_run_id = ?)"
)
_REGISTERED = (
    "SELECT 1 FROM flow WHERE NOT archived AND version_group_id = (SELECT version_group_id FROM flow WHERE id = ?)"
)
#: The number of the latest journal of the run.
_JOURNAL = "SELECT max(attempt) FROM log_attempt WHERE run = ?"


@dataclass(frozen=True, kw_only=True)
class End:
    """The end of an attempt."""

    state: NewState
    #: When it ended by the agent's report, to the microsecond; None if no agent has reported it.
    reported_us: int | None = None
    reason: str | None = None
    grade: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    #: When its code began, seconds since the epoch; None if not known.
    code_s: float | None = None

    @property
    def exit_code(self) -> int | None:
        """The exit code of its process; None if it did not exit, or that is not known."""
        return _whole(self.figures, "exit_code")


def reported_end(state: NewState, reported_us: int | None) -> End:
    """Return the end that an agent has reported."""
    context = state.serialized.get("context")
    marks = context.get("flowherd") if isinstance(context, dict) else None
    marks = marks if isinstance(marks, dict) else {}
    figures, reason = dict(known_figures(marks.get("figures"))), _text(marks.get("reason"))
    if reason == reasons.REASON_EXITED and (code := _EXITED.search(state.message or "")) is not None:
        figures.setdefault("exit_code", int(code[1]))
    return End(
        state=state,
        reported_us=reported_us,
        reason=reason,
        grade=_text(marks.get("grade")),
        figures=figures,
        code_s=dict(known_phases(marks.get("phases"))).get("code"),
    )


def end_found_by_server(state: NewState) -> End:
    """Return the end of a run that no agent has named for too long."""
    return End(state=state, reason=reasons.REASON_LOST, grade=reasons.GRADE_PROBABLE)


def is_of_ended_attempt(call: Call, run: StoredRow, claim: str | None, at_us: int | None) -> bool:
    """Return whether an end that was reported at this time, with this claim, is stored as that of an attempt."""
    if run["attempt"] is None or claim is None or at_us is None:
        return False
    return plain(call.connection).execute(_KNOWN, (run["id"], claim, at_us)).fetchone() is not None


def is_of_another_attempt(run: StoredRow, claim: str | None) -> bool:
    """Return whether a report comes from an agent that has the run no more, because it was tried again since."""
    return run["attempt"] is not None and claim is not None and claim != run["claim"]


def after_end(call: Call, run: StoredRow, end: End) -> tuple[NewState, dict[str, Any]]:
    """Store the end of the present attempt. Returns the run's next state, and the columns to set with it."""
    rules, number = rules_of(run["rules"]), run["attempt"]
    again = _is_tried_again(run, rules, end)
    is_over = again and not _is_registered(call, run)
    again = again and not is_over
    next_us = call.now + round(rules.delay_s(number) * SECOND_US) if again else None
    insert_row(call.connection, FLOW_RUN_ATTEMPT, _row(call, run, end, next_us))
    most = rules.retries + 1
    if next_us is None:
        why = ", and its flow is registered no more" if is_over else ""
        is_told = (number > 1 and end.state.type in UNSUCCESSFUL) or is_over
        return _with_addition(end.state, f"It was attempt {number} of {most}{why}.") if is_told else end.state, {}
    pause_s = (next_us - call.now) / SECOND_US
    when = f"in {pause_s:g} s" if pause_s else "now"
    message = f"Attempt {number} of {most} ended: {_sentence(end.state)} The next one starts {when}."
    marks = {"attempt": number, "reason": end.reason, "grade": end.grade}
    more = {
        "start_time": format_time(next_us),
        "run_count": number,
        "context": {"flowherd": {name: value for name, value in marks.items() if value is not None}},
    }
    _log(call, run, f"Attempt {number} of {most} has ended. The next one starts {when}.")
    return plain_state(RunState.RETRYING, message, end.state.at_us, next_us, **more), {"attempt": number + 1}


def _is_tried_again(run: StoredRow, rules: FlowRules, end: End) -> bool:
    return (
        end.state.type in UNSUCCESSFUL
        and run["state"] != RunState.CANCELLING
        and run["attempt"] <= rules.retries
        and rules.tries_again_after(end.state.type, end.reason, end.exit_code)
    )


def _is_registered(call: Call, run: StoredRow) -> bool:
    """Return whether the flow has not been unregistered since; a version that was replaced goes on."""
    return plain(call.connection).execute(_REGISTERED, (run["flow_id"],)).fetchone() is not None


def _row(call: Call, run: StoredRow, end: End, next_us: int | None) -> dict[str, Any]:
    execute = plain(call.connection).execute
    started_us = execute(_STARTED, (run["seq"], run["id"])).fetchone()[0]
    if end.code_s is not None:
        started_us = round(end.code_s * SECOND_US)
    cpu_time_s = end.figures.get("cpu_time_s")
    return {
        "id": str(uuid4()),
        "flow_run_id": run["id"],
        "number": run["attempt"],
        "version": run["version"] + 1,
        "state": end.state.type.value,
        "message": end.state.message,
        "reason": end.reason,
        "grade": end.grade,
        "exit_code": end.exit_code,
        "cpu_time": None if cpu_time_s is None else round(cpu_time_s * SECOND_US),
        "peak_memory_bytes": _whole(end.figures, "peak_memory_bytes"),
        "agent_id": run["agent_id"],
        "claim": run["claim"],
        "reported_end": end.reported_us,
        "start_time": None if started_us is None else min(started_us, end.state.at_us),
        "end_time": end.state.at_us,
        "next_start_time": next_us,
        "journal": execute(_JOURNAL, (run["seq"],)).fetchone()[0],
        "created": call.now,
    }


def _log(call: Call, run: StoredRow, text: str) -> None:
    line = NewLine(run["id"], None, call.now, "flowherd", "WARNING", text, None, "flowherd")
    store_lines(call.connection, [line], call.now)
    call.effects.logged.add(run["id"])


def _with_addition(state: NewState, sentence: str) -> NewState:
    text = state.message or ""
    text = text if not text or text.endswith((".", "!", "?")) else f"{text}."
    return replace(state, serialized={**state.serialized, "message": f"{text} {sentence}".strip()})


def _sentence(state: NewState) -> str:
    text = f"{state.type}: {state.message}" if state.message else str(state.type)
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _text(value: Any) -> str | None:
    return value[:100] if isinstance(value, str) else None


def _whole(figures: Mapping[str, float], name: str) -> int | None:
    value = figures.get(name)
    return None if value is None else int(value)
