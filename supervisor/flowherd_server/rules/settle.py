"""Applies the rules of flows to their runs that are due; all versions of a flow together.

A run that is held back is Queued without a start time, so nothing offers it to an agent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from flowherd.flow_rules import NO_RULES, CatchUp, FlowRules, Overlap, read_rules
from flowherd.states import Event, RunState, after
from flowherd_server.call import Call
from flowherd_server.rules.decide import IN_TIME_US, Decision, DueRunOfFlow, RunUnderWay, Verb, decide, missed
from flowherd_server.runs.new_state import plain_state
from flowherd_server.runs.put_into_state import put_into_state
from flowherd_server.store.indexes import HAS_RULES_AND_WAITS, IS_HELD
from flowherd_server.store.microseconds import format_time
from flowherd_server.store.plain import StoredRow, plain
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import FLOW_RUN

#: States in which a run takes up room of its flow: it is under way, or waits for its next attempt.
TAKES_ROOM = frozenset({RunState.SUBMITTED, RunState.RUNNING, RunState.CANCELLING, RunState.RETRYING})
#: What the idempotency key of a schedule's run ends with if its clock sets parameters or labels (auto_runs.py).
_CLOCK = re.compile(r":([0-9a-f]{32})$")
#: A chain of decisions ends after this many rounds at the latest: a run that is cancelled at once makes room.
_MOST_ROUNDS = 5

_OF_FLOW = "flow_id IN (SELECT id FROM flow WHERE flow_group_id = (SELECT flow_group_id FROM flow WHERE id = ?))"
_COLUMNS = "id, name, state, scheduled_start_time, state_start_time, auto_scheduled, idempotency_key, start_time, rules"
_DUE = (
    f"SELECT {_COLUMNS} FROM flow_run WHERE {HAS_RULES_AND_WAITS} AND {_OF_FLOW} AND state_start_time <= ? "
    f"AND state <> '{RunState.RETRYING}'"
)
_HELD = f"SELECT {_COLUMNS} FROM flow_run WHERE {IS_HELD} AND {_OF_FLOW}"
# The plus keeps SQLite from going through all runs of the flow; few runs of all flows are in such a state.
_TAKES_ROOM = "state IN ({})".format(", ".join(f"'{state}'" for state in sorted(TAKES_ROOM)))
_UNDER_WAY = f"SELECT seq, id, name, state FROM flow_run WHERE {_TAKES_ROOM} AND +{_OF_FLOW}"
# Which flows have such a run, one flow of a group at least. By time, because few runs become due at once.
_FLOWS = "SELECT DISTINCT flow_id FROM flow_run INDEXED BY flow_run_with_rules"
_FLOWS_BETWEEN = f"{_FLOWS} WHERE {HAS_RULES_AND_WAITS} AND state_start_time > ? AND state_start_time <= ?"
_FLOWS_WITH_HELD = f"{_FLOWS} WHERE {IS_HELD}"
_NEXT = f"SELECT min(state_start_time) FROM flow_run WHERE {HAS_RULES_AND_WAITS} AND state_start_time > ?"


def rules_of(value: Mapping[str, Any] | None) -> FlowRules:
    """Return the rules as stored, which were checked when the flow was registered."""
    return NO_RULES if value is None else read_rules(value)


def limits_runs(rules: Mapping[str, Any] | None) -> bool:
    """Return whether stored rules limit how many runs are under way at once."""
    if rules is None:
        return False
    return rules.get("max_running") is not None or rules.get("overlap", Overlap.ALLOW.value) != Overlap.ALLOW.value


def settle_flow(call: Call, flow_id: str) -> None:
    """Decide about all runs of the flow that are due, and carry that out.

    Not while runs are held back after a restore: agents are telling what has run already.
    """
    if not call.offers_runs:
        return
    for _ in range(_MOST_ROUNDS):
        makes_room = [_carry_out(call, decision) for decision in decisions_for(call.connection, flow_id, call.now)]
        if not any(makes_room):
            return


def decisions_for(connection: Connection, flow_id: str, now_us: int) -> list[Decision]:
    """Return what is to be decided about the runs of a flow now."""
    due = _due_runs(connection, flow_id, now_us)
    has_limit = any(run.rules.limit is not None for run in due)
    return decide(due, _runs_under_way(connection, flow_id) if has_limit else (), now_us)


def why_not_now(call: Call, run: StoredRow) -> str | None:
    """Return why a run that is due may not be claimed now, by the rules of its flow; None if it may."""
    rules = rules_of(run["rules"])
    if run["state"] == RunState.RETRYING:  # it has its room
        return None
    if run["auto_scheduled"] and rules.catch_up is not CatchUp.ALL:
        due = _due_runs(call.connection, run["flow_id"], call.now)
        own = next((each for each in due if each.id == run["id"]), None)
        if own is not None and (why := missed(own, due, call.now)) is not None:
            return why
    under_way = _runs_under_way(call.connection, run["flow_id"]) if rules.limit is not None else ()
    if rules.limit is not None and len(under_way) >= rules.limit:
        return f"{len(under_way)} runs of its flow are under way, and at most {rules.limit} may be"
    return None


def flows_to_settle(connection: Connection, since_us: int, now_us: int) -> list[str]:
    """Return the flows of which a run has become due since then, or too late to be in time, or is held back."""
    execute = plain(connection).execute
    found = dict.fromkeys(row[0] for row in execute(_FLOWS_BETWEEN, (since_us, now_us)))
    found |= dict.fromkeys(row[0] for row in execute(_FLOWS_BETWEEN, (since_us - IN_TIME_US, now_us - IN_TIME_US)))
    return list(found | dict.fromkeys(flows_with_held_runs(connection)))


def flows_with_held_runs(connection: Connection) -> list[str]:
    """Return the flows of which a run is held back."""
    return [row[0] for row in plain(connection).execute(_FLOWS_WITH_HELD)]


def next_look(connection: Connection, now_us: int) -> int | None:
    """Return when the next run is due whose flow has rules, or is too late to be in time; None if none is."""
    execute = plain(connection).execute
    due, late = (execute(_NEXT, (at,)).fetchone()[0] for at in (now_us, now_us - IN_TIME_US))
    return min((at for at in (due, None if late is None else late + IN_TIME_US) if at is not None), default=None)


def _due_runs(connection: Connection, flow_id: str, now_us: int) -> list[DueRunOfFlow]:
    execute = plain(connection).execute
    return [_due_run(row) for row in (*execute(_DUE, (flow_id, now_us)), *execute(_HELD, (flow_id,)))]


def _due_run(row: Sequence[Any]) -> DueRunOfFlow:
    run_id, name, state, scheduled_us, due_us, auto_scheduled, key, start_time, rules = row
    clock = None
    if auto_scheduled and state == RunState.SCHEDULED and start_time is None:
        found = _CLOCK.search(key or "")
        clock = "" if found is None else found[1]
    return DueRunOfFlow(
        id=run_id, name=name, scheduled_us=scheduled_us, due_us=due_us, rules=rules_of(json.loads(rules)), clock=clock
    )


def _runs_under_way(connection: Connection, flow_id: str) -> list[RunUnderWay]:
    rows = sorted(plain(connection).execute(_UNDER_WAY, (flow_id,)))
    return [RunUnderWay(id=row[1], name=row[2], is_ending=row[3] == RunState.CANCELLING) for row in rows]


def _carry_out(call: Call, decision: Decision) -> bool:
    """Carry out a decision. Returns whether a run has made room at once."""
    run = row_by_id(call.connection, FLOW_RUN, decision.run_id)
    state = RunState(run["state"])
    if decision.verb is Verb.CANCEL:
        target = after(state, Event.REQUEST_CANCEL)
        put_into_state(call, run, plain_state(target, f"{target}: {decision.why}", call.now))
        if run["agent_id"] is not None:
            call.effects.agents.add(run["agent_id"])
        return target not in TAKES_ROOM
    if decision.verb is Verb.SKIP:
        put_into_state(call, run, plain_state(after(state, Event.SKIP), decision.why, call.now))
    elif decision.verb is Verb.HOLD:
        put_into_state(call, run, plain_state(after(state, Event.QUEUE), decision.why, call.now))
    else:
        target = after(state, Event.SCHEDULE)
        more = {"start_time": format_time(call.now)}
        put_into_state(call, run, plain_state(target, decision.why, call.now, call.now, **more))
    return False
