"""Which label is missing, by the dialect's rule of which agent takes which run."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from flowherd.client.user import AgentView, missing_labels

NOW = datetime(2030, 1, 31, tzinfo=timezone.utc)


def agent(*labels: str) -> AgentView:
    return AgentView(id="a", name="a", labels=labels, last_queried=None)


@pytest.mark.parametrize(
    ("wanted", "agents", "missing"),
    [
        (["a"], [agent("a")], None),
        (["a"], [agent("a", "b")], None),
        ([], [agent()], None),
        ([], [agent("x"), agent()], None),
        (["a"], [agent("b"), agent("a", "c")], None),
        (["a", "b"], [agent("a")], ["b"]),
        (["a", "b", "c"], [agent(), agent("a", "c")], ["b"]),
        (["a"], [agent()], ["a"]),
        (["b", "a"], [], ["a", "b"]),
        ([], [agent("a")], []),
        ([], [], []),
    ],
)
def test_the_closest_agent_tells_what_is_missing(
    wanted: list[str], agents: list[AgentView], missing: list[str] | None
) -> None:
    assert missing_labels(wanted, agents) == missing


@pytest.mark.parametrize(
    ("connected", "seconds_ago", "alive"),
    [
        (True, None, True),
        (False, 4, True),
        (False, 6, False),
        (False, None, False),
        (None, 59, True),
        (None, 61, False),
        (None, None, False),
    ],
)
def test_an_agent_is_alive_when_connected_or_heard_of_lately(
    connected: bool | None, seconds_ago: float | None, alive: bool
) -> None:
    heard = NOW - timedelta(seconds=seconds_ago) if seconds_ago is not None else None
    view = AgentView(id="a", name="a", labels=(), last_queried=heard, connected=connected)
    assert view.alive(NOW) is alive
