"""get_runs_in_queue, which runs an agent may claim now, and offer_runs, which of them it should. Both reserve nothing.

Agents of the dialect see all due runs and pick from them. flowherd's own say how much room they have and get what is
offered to them alone for some seconds (offers.py), with all that a start needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLList, GraphQLNonNull
from graphql.type import GraphQLInt, GraphQLString

from flowherd_server.call import Call
from flowherd_server.errors import Refused
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT, TIME_INPUT, UUID_INPUT
from flowherd_server.offers import MAX_HOLDER_LENGTH
from flowherd_server.runs.due_runs import due_flow_runs
from flowherd_server.runs.run_details import run_details
from flowherd_server.runs.task_run_states import HANDED_OUT_AFTER_US
from flowherd_server.store.row_lookup import tenant_id_of

MAX_IDS = 100


def _get_runs_in_queue(call: Call, given: Input) -> Mapping[str, Any]:
    if not call.offers_runs:
        return {"flow_run_ids": []}
    before = call.now if given.get("before") is None else given["before"]
    tenant_id = tenant_id_of(call.connection, call.caller, given.get("tenant_id"))
    due = due_flow_runs(call.connection, tenant_id, given.get("labels") or (), before, MAX_IDS)
    return {"flow_run_ids": [run.run_id for run in due]}


def offer_runs(call: Call, given: Input) -> Mapping[str, Any]:
    """Return the runs that are offered to this agent, with all that their starts need."""
    if not call.offers_runs:
        return {"flow_runs": []}
    holder, room, labels = given["holder"], given.get("room"), given.get("labels") or ()
    if not 0 < len(holder) <= MAX_HOLDER_LENGTH:
        raise Refused(f"a holder has 1 to {MAX_HOLDER_LENGTH} characters")
    if room is not None and room <= 0:
        call.effects.passed += call.offers.decline(holder, labels)
        return {"flow_runs": []}
    tenant_id = tenant_id_of(call.connection, call.caller, given.get("tenant_id"))
    unavailable, most = call.offers.before_asking(holder, room)
    busy = frozenset(given.get("exclude") or ())
    # Without those of others, so that what can be offered is among the first.
    left_out, tasks_before = [*busy, *unavailable], call.now - HANDED_OUT_AFTER_US
    due = due_flow_runs(call.connection, tenant_id, labels, call.now, most, tasks_before, left_out)
    offered = call.offers.ask(holder, labels, room, due, busy, call.effects.passed)
    return {"flow_runs": run_details(call.connection, call.now, offered)}


OPERATIONS = (
    Operation(
        name="get_runs_in_queue",
        arguments={
            "before": TIME_INPUT,
            "labels": GraphQLList(GraphQLNonNull(GraphQLString)),
            "tenant_id": UUID_INPUT,
        },
        answer={"flow_run_ids": GraphQLList(GraphQLNonNull(UUID_INPUT))},
        handle=_get_runs_in_queue,
        asks_for_work=True,
    ),
    Operation(
        name="offer_runs",
        arguments={
            # What tells this agent from others, which may be registered under the same id.
            "holder": GraphQLNonNull(GraphQLString),
            # For how many more runs it has room; null means any number.
            "room": GraphQLInt,
            "labels": GraphQLList(GraphQLNonNull(GraphQLString)),
            "exclude": GraphQLList(GraphQLNonNull(UUID_INPUT)),
            "tenant_id": UUID_INPUT,
            # What the agent reports of itself (agent_contacts.py).
            "report": JSON_INPUT,
        },
        answer={"flow_runs": GraphQLList(GraphQLNonNull(JSON_INPUT))},
        handle=offer_runs,
        asks_for_work=True,
    ),
)
