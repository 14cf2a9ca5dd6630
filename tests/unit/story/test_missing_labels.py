"""Which label is missing, by the dialect's rule of which agent takes which run, and which agents are alive."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from flowherd.story.records import AgentView, missing_labels

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
def test_the_missing_labels_are_those_of_the_closest_agent(
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
def test_an_agent_is_alive_if_it_is_connected_or_asked_for_runs_recently(
    connected: bool | None, seconds_ago: float | None, alive: bool
) -> None:
    queried = NOW - timedelta(seconds=seconds_ago) if seconds_ago is not None else None
    view = AgentView(id="a", name="a", labels=(), last_queried=queried, connected=connected)
    assert view.alive(NOW) is alive
