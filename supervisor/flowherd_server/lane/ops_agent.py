"""subscribe, room and offer: how an agent gets the runs that are offered to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowherd_server.lane import given
from flowherd_server.lane.given import BadRequest
from flowherd_server.lane.requests import Access, LaneOperation, LaneRequest
from flowherd_server.mutations.queue import offer_runs
from flowherd_server.offers import MAX_HOLDER_LENGTH
from flowherd_server.runs.subscribers import Subscription
from flowherd_server.store.microseconds import now_us


def _holder(request: LaneRequest) -> str:
    """Return what tells this agent from others, which may be registered under the same id."""
    holder = given.text(request.given, "holder")
    if not 0 < len(holder) <= MAX_HOLDER_LENGTH:
        raise BadRequest(f"a holder has 1 to {MAX_HOLDER_LENGTH} characters")
    return holder


def _subscribe(request: LaneRequest) -> Mapping[str, Any] | None:
    """Send the agent what is offered to it, and wakes, over this connection until it is closed.

    Runs that are due already are not sent: the agent asks for them with `offer`.
    """
    connection, core = request.connection, request.core
    subscription = Subscription(
        agent_id=connection.caller.agent_id,
        holder=_holder(request),
        labels=frozenset(given.texts(request.given, "labels")),
        push=connection.push,
    )
    core.subscribers.add(subscription, given.number_or_none(request.given, "room"))
    connection.on_close.append(lambda: core.board.offered(core.subscribers.remove(subscription)))
    core.contacts.note(connection.caller.agent_id, now_us())
    followed = core.followers.run_ids()
    if followed:
        core.subscribers.tell_followed(followed, subscription)
    agent_id = connection.caller.agent_id
    if agent_id is not None and core.live.news(agent_id):
        core.subscribers.tell_live((agent_id,), core.live.news)
    return {}


def _room(request: LaneRequest) -> Mapping[str, Any]:
    """Note for how many more runs the agent has room, those that it was offered and has not claimed counted in."""
    request.core.offers.has_room(_holder(request), given.number_or_none(request.given, "room"))
    request.core.contacts.note(request.connection.caller.agent_id, now_us())
    return {}


def _offer(request: LaneRequest) -> Mapping[str, Any]:
    """Return the runs that are offered to the agent, with all that their starts need; the same as offer_runs."""
    asked = {
        "holder": _holder(request),
        "room": given.number_or_none(request.given, "room"),
        "labels": given.texts(request.given, "labels"),
        "exclude": given.uuids(request.given, "exclude"),
    }
    return offer_runs(request.transaction, asked)


def _report_agent(request: LaneRequest) -> Mapping[str, Any]:
    """Keep in memory what the agent reports; answer what it is asked, the same as the mutation report_agent."""
    agent_id, core = request.connection.caller.agent_id, request.core
    core.contacts.note(agent_id, now_us())
    core.live.note(agent_id, request.given.get("live_report"))
    return {"news": core.live.news(agent_id).as_json()}


OPERATIONS = (
    LaneOperation(name="report_agent", handle=_report_agent, access=Access.NONE),
    LaneOperation(name="subscribe", handle=_subscribe, access=Access.NONE),
    LaneOperation(name="room", handle=_room, access=Access.NONE),
    LaneOperation(name="offer", handle=_offer, access=Access.READ, asks_for_work=True),
)
