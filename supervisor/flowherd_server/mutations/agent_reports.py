"""report_agent, by which agents report while somebody watches, and ask_agent, by which they are asked something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLNonNull
from graphql.type import GraphQLFloat, GraphQLString

from flowherd.story.live_news import LONGEST_DRAIN_S, Action
from flowherd_server.call import Call
from flowherd_server.errors import Refused
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT, UUID_INPUT
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import AGENT


def _report_agent(call: Call, given: Input) -> Mapping[str, Any]:
    """Keep it in memory. What is stored of an agent comes with its requests for runs."""
    agent_id = call.caller.agent_id
    call.live.note(agent_id, given["live_report"])
    return {"news": call.live.news(agent_id).as_json()}


def _ask_agent(call: Call, given: Input) -> Mapping[str, Any]:
    words = [action.value for action in Action]
    if given["action"] not in words:
        raise Refused(f"action must be one of {', '.join(words)}, not {given['action']!r}")
    action, deadline_s = Action(given["action"]), given.get("deadline_s")
    if deadline_s is not None and not (action is Action.DRAIN and 0 <= deadline_s <= LONGEST_DRAIN_S):
        raise Refused(f"deadline_s is for drain: a number of seconds up to {LONGEST_DRAIN_S:.0f}")
    row = row_by_id(call.connection, AGENT, given["agent_id"])
    return {"order_id": call.live.ask(row["id"], row["name"], action, deadline_s)}


OPERATIONS = (
    Operation(
        name="report_agent",
        arguments={"live_report": GraphQLNonNull(JSON_INPUT)},
        answer={"news": JSON_INPUT},
        handle=_report_agent,
        asks_for_work=True,
    ),
    Operation(
        name="ask_agent",
        arguments={
            "agent_id": GraphQLNonNull(UUID_INPUT),
            # One of flowherd.story.live_news.Action.
            "action": GraphQLNonNull(GraphQLString),
            # How long the runs of a draining agent may go on, seconds; null for the agent's own setting.
            "deadline_s": GraphQLFloat,
        },
        # By which the query agent_order(id) finds what came of it.
        answer={"order_id": GraphQLString},
        handle=_ask_agent,
        durable=False,
    ),
)
