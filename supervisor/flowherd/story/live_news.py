"""What flowherd's server asks of an agent beside runs: to report often, and what somebody has asked of it.

The server sends it with its wakes and answers; JSON, of which older agents read nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from flowherd.story.sent_values import NUMBER, readable

#: Time between two reports while somebody watches, seconds.
REPORT_S = 2.0
#: Longest deadline of a drain, seconds.
LONGEST_DRAIN_S = 30 * 86400.0
_MOST_ORDERS, _MOST_RUNS, _MAX_TEXT = 20, 100, 200


class Action(str, Enum):
    """What an agent can be asked."""

    PAUSE = "pause"
    RESUME = "resume"
    #: Claim no more, wait for the runs, and stop.
    DRAIN = "drain"
    #: Start again and leave the runs running meanwhile.
    RESTART = "restart"

    __str__ = str.__str__


@dataclass(frozen=True, kw_only=True)
class Order:
    """One request to an agent."""

    id: str
    action: Action
    #: For a drain: how long the runs may go on, seconds; None for the agent's own setting.
    deadline_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class LiveNews:
    """What the server asks of one agent now."""

    #: Whether somebody watches, so that the agent is to report every two seconds.
    watched: bool = False
    #: Ids of runs, of any agent, whose processes somebody looks at.
    looked_at: tuple[str, ...] = ()
    orders: tuple[Order, ...] = ()

    def __bool__(self) -> bool:
        return self.watched or bool(self.orders)

    def as_json(self) -> dict[str, Any]:
        """Return it as it is sent."""
        orders = [{**asdict(order), "action": order.action.value} for order in self.orders]
        return {"watched": self.watched, "looked_at": list(self.looked_at), "orders": orders}


def read_live_news(value: Any) -> LiveNews:
    """Return what was sent; what cannot be read is left out."""
    if not isinstance(value, Mapping):
        return LiveNews()
    looked_at = tuple(one for one in _listed(value, "looked_at", _MOST_RUNS) if isinstance(one, str))
    orders = tuple(order for one in _listed(value, "orders", _MOST_ORDERS) if (order := _order(one)) is not None)
    return LiveNews(watched=value.get("watched") is True, looked_at=looked_at, orders=orders)


def _order(value: Any) -> Order | None:
    found = readable(value, {"id": str, "action": str, "deadline_s": NUMBER}) if isinstance(value, Mapping) else {}
    if not found.get("id") or found.get("action") not in [*Action]:
        return None
    return Order(id=found["id"][:_MAX_TEXT], action=Action(found["action"]), deadline_s=found.get("deadline_s"))


def _listed(value: Mapping[str, Any], name: str, most: int) -> list[Any]:
    found = value.get(name)
    return found[:most] if isinstance(found, list) else []
