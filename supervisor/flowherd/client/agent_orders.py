"""Asks an agent something over flowherd's own server: to pause, resume, drain or restart."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from flowherd.backends.graphql.transport import LIVE_REPORTS, GraphQLTransport
from flowherd.backends.json_values import text, text_or_none
from flowherd.client.queries import is_flowherd_server, understanding
from flowherd.errors import InvalidRequest

#: Time in which an agent answers, seconds: one that is connected does at once. And the pause between two looks.
_TIMEOUT_S, _LOOK_S = 10.0, 0.1


class AgentOrders:
    """Asks the agents of one server. Raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport

    def ask(self, agent_id: str, action: str) -> str | None:
        """Ask an agent for one of flowherd.story.live_news.Action and wait a while for its answer.

        Returns why it refused, empty if it did what was asked, or None if it has not answered: it will when it does.
        Raises InvalidRequest if the server passes nothing on to agents.
        """
        if not (is_flowherd_server(self._transport) and LIVE_REPORTS in self._transport.server_extensions):
            raise InvalidRequest(
                f"{self._transport.origin} passes nothing on to agents; this needs flowherd's own server"
            )
        answer = self._transport.mutate("ask_agent", {"agent_id": agent_id, "action": action}, "order_id")
        with understanding(self._transport, "the answer to ask_agent"):
            order_id = text(answer["order_id"])
        deadline_s = time.monotonic() + _TIMEOUT_S
        while (outcome := self._outcome(order_id)) is None and time.monotonic() < deadline_s:
            time.sleep(_LOOK_S)
        return outcome

    def _outcome(self, order_id: str) -> str | None:
        query = "query($id: String!) { agent_order(id: $id) { outcome } }"
        data: Mapping[str, Any] = self._transport.execute(query, {"id": order_id})
        with understanding(self._transport, "what came of an order"):
            return text_or_none(data["agent_order"]["outcome"])
