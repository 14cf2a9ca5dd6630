"""What agents are asked, until they have answered."""

from __future__ import annotations

import time

import pytest

from flowherd.story.live_news import Action, LiveNews, Order, read_live_news
from flowherd_server.runs import agent_orders
from flowherd_server.runs.agent_orders import AgentOrders

AGENT = "a0000000-0000-0000-0000-000000000000"


def test_an_order_waits_until_each_agent_of_that_name_has_answered() -> None:
    told: list[str] = []
    orders = AgentOrders(told.append)
    order_id = orders.add(AGENT, ["one", "two"], Action.DRAIN, 60.0)
    assert told == [AGENT]
    assert orders.pending(AGENT) == (Order(id=order_id, action=Action.DRAIN, deadline_s=60.0),)
    assert orders.pending("another") == ()
    orders.settle("one", {order_id: ""})
    assert orders.outcome(order_id, 0.0) is None
    orders.settle("two", {order_id: "no", "unknown": ""})
    assert (orders.pending(AGENT), orders.outcome(order_id, 0.0)) == ((), "no")


def test_an_order_that_nobody_takes_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = AgentOrders()
    order_id = orders.add(AGENT, ["one"], Action.PAUSE, None)
    late_s = time.monotonic() + agent_orders.KEEP_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: late_s)
    assert orders.pending(AGENT) == ()
    assert orders.outcome(order_id, 0.0) is None


@pytest.mark.parametrize("sent", [None, [], "x", {"id": 5}])
def test_answers_that_are_none_change_nothing(sent: object) -> None:
    orders = AgentOrders()
    order_id = orders.add(AGENT, ["one"], Action.PAUSE, None)
    orders.settle("one", sent)
    assert orders.outcome(order_id, 0.0) is None


def test_news_is_the_same_after_it_was_sent_and_what_cannot_be_read_is_left_out() -> None:
    news = LiveNews(watched=True, looked_at=("r",), orders=(Order(id="x", action=Action.RESTART),))
    assert read_live_news(news.as_json()) == news
    assert not read_live_news({"watched": "yes", "looked_at": [5], "orders": [{"id": "x", "action": "stop"}, 7]})
    assert not read_live_news("nonsense")
