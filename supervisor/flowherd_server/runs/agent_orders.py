"""What somebody has asked of agents (pause, resume, drain, restart), until they have answered. In memory only.

An order that no agent takes within a minute is dropped: hours later nobody would expect it. Usable from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from flowherd.story.live_news import Action, Order

#: How long an order waits for an agent, and how long what came of it is known, seconds.
KEEP_S = 60.0
_MAX_TEXT = 500


@dataclass
class _Asked:
    """One order, and the agents (by their instances) that have not answered yet."""

    order: Order
    agent_id: str
    until_s: float
    waits_for: set[str]
    #: What came of it, as far as agents have answered: why it was not carried out, empty if it was.
    outcome: str | None = None


class AgentOrders:
    """All orders. `on_new` is called with the id under which an agent is registered when it is asked something."""

    def __init__(self, on_new: Callable[[str], None] = lambda _agent_id: None) -> None:
        self._on_new = on_new
        self._changed = threading.Condition()
        self._asked: dict[str, _Asked] = {}

    def add(self, agent_id: str, instances: Collection[str], action: Action, deadline_s: float | None) -> str:
        """Ask the agents that are registered under this id and run as these instances. Returns the order's id."""
        order = Order(id=uuid4().hex, action=action, deadline_s=deadline_s)
        with self._changed:
            self._forget_old()
            self._asked[order.id] = _Asked(order, agent_id, time.monotonic() + KEEP_S, set(instances))
        self._on_new(agent_id)
        return order.id

    def pending(self, agent_id: str | None) -> tuple[Order, ...]:
        """Return what agents that are registered under this id have not answered yet."""
        if not self._asked:
            return ()
        with self._changed:
            self._forget_old()
            return tuple(one.order for one in self._asked.values() if one.agent_id == agent_id and one.waits_for)

    def settle(self, instance: str, outcomes: Any) -> None:
        """Take what an agent reports of the orders, whatever was sent."""
        if not self._asked or not isinstance(outcomes, Mapping):
            return
        with self._changed:
            for order_id in [one for one in self._asked if one in outcomes]:
                asked = self._asked[order_id]
                asked.waits_for.discard(instance)
                if isinstance(outcomes[order_id], str):
                    asked.outcome = (asked.outcome or outcomes[order_id])[:_MAX_TEXT]
            self._changed.notify_all()

    def outcome(self, order_id: str, timeout_s: float) -> str | None:
        """Wait until all agents have answered, `timeout_s` at most.

        Returns why one of them has not carried the order out, empty if all have, None if no answer has come.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._waits(order_id), timeout_s)
            asked = self._asked.get(order_id)
            return None if asked is None or asked.waits_for else asked.outcome

    def _waits(self, order_id: str) -> bool:
        asked = self._asked.get(order_id)
        return asked is not None and bool(asked.waits_for)

    def _forget_old(self) -> None:
        now_s = time.monotonic()
        self._asked = {order_id: one for order_id, one in self._asked.items() if one.until_s > now_s}
