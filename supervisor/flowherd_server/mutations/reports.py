"""A state of a flow run or a task run as it is reported, checked for its form and put into our words. No database."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from flowherd.states import CLAIMABLE, RunState
from flowherd_server.errors import Refused
from flowherd_server.runs.new_states import NewState
from flowherd_server.store.times import parse_time

#: The real server's own limit.
MAX_STATE_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Report:
    """One entry of set_flow_run_states or set_task_run_states."""

    run_id: str
    #: The version that the reporter knew; None is "do not check".
    version: int | None
    type: RunState
    serialized: Mapping[str, Any]
    #: When it came about, where flowherd's agent says so.
    at_us: int | None
    #: From when on a waiting state may be taken; None is not said.
    start_us: int | None
    claim: str | None

    def as_state(self, stored_type: RunState, now_us: int, claim: str | None) -> NewState:
        """What is stored, as said by the one who has `claim`. A time that lies in the future is not believed."""
        at_us = now_us if self.at_us is None or self.at_us > now_us else self.at_us
        start_us = self.start_us
        if start_us is None and stored_type in CLAIMABLE and stored_type is not RunState.PAUSED:
            start_us = now_us  # the dialect's rule; Paused without a time waits for a person
        return NewState(type=stored_type, serialized=self.serialized, at_us=at_us, start_us=start_us, claim=claim)


def read_report(given: Mapping[str, Any], id_key: str, kinds: Container[RunState]) -> Report:
    """The report of a run whose id is under `id_key`.

    Raises Refused when the state is not one of `kinds`, or not of its form.
    """
    state = given["state"]
    if not isinstance(state, dict):
        raise Refused("state must be a JSON object")
    if len(json.dumps(state)) > MAX_STATE_BYTES:
        raise Refused(f"a state is larger than {MAX_STATE_BYTES} bytes")
    kind = _kind(state.get("type"))
    if kind is None or kind not in kinds:
        what = id_key.removesuffix("_id").replace("_", " ")
        raise Refused(f"{state.get('type')!r} is not a state that a {what} can be put into")
    marks = _marks(state)
    claim = marks.get("claim")
    if claim is not None and not isinstance(claim, str):
        raise Refused("state.context.flowherd.claim must be a text")
    return Report(
        run_id=given[id_key],
        version=given.get("version"),
        type=kind,
        serialized=state,
        at_us=_time("state.context.flowherd.at", marks.get("at")),
        start_us=_time("state.start_time", state.get("start_time")) if kind in CLAIMABLE else None,
        claim=claim,
    )


def _kind(name: Any) -> RunState | None:
    try:
        return RunState(name)
    except ValueError:
        return None


def _marks(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """What flowherd's own agent adds to a state (docs/design.md, section 13)."""
    context = state.get("context")
    marks = context.get("flowherd") if isinstance(context, dict) else None
    return marks if isinstance(marks, dict) else {}


def _time(what: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        return parse_time(value)
    except (TypeError, ValueError):
        raise Refused(f"{what} is not an ISO 8601 time: {value!r}") from None
