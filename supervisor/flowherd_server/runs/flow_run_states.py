"""Putting a flow run into a state; every change of a flow run's state goes through here.

Also what that means for other runs of its flow, by the flow's rules: the room of a run that ends is another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowherd_server.call import Call
from flowherd_server.rules.settle import TAKES_ROOM, limits_runs, settle_flow
from flowherd_server.runs.new_state import NewState
from flowherd_server.runs.put_into_state import put_into_state, store_first_state
from flowherd_server.store.plain import StoredRow


def enter_flow_run_state(call: Call, run: StoredRow, state: NewState, **columns: Any) -> None:
    """Put `run` into `state`, and set `columns` with it.

    The caller has checked with flowherd.states that this is allowed.
    """
    if not limits_runs(run["rules"]):
        put_into_state(call, run, state, **columns)
        return
    gives_room = run["state"] in TAKES_ROOM and state.type not in TAKES_ROOM
    if gives_room:
        settle_flow(call, run["flow_id"])  # what was due while it ran, if nobody has decided about that yet
    put_into_state(call, run, state, **columns)
    if gives_room or state.type in TAKES_ROOM or _is_due(call, state):
        settle_flow(call, run["flow_id"])


def enter_first_flow_run_state(call: Call, run: Mapping[str, Any], state: NewState) -> None:
    """Store a new run, which begins in `state` with version 1."""
    store_first_state(call, run, state)
    if limits_runs(run.get("rules")) and _is_due(call, state):
        settle_flow(call, run["flow_id"])


def _is_due(call: Call, state: NewState) -> bool:
    return state.start_us is not None and state.start_us <= call.now
