"""Clients that follow a run's log hear of its lines when they are stored, and its agent that somebody follows."""

from __future__ import annotations

import time
import uuid
from contextlib import closing
from typing import Any

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.client.run_end import EndWait
from flowherd.lane.client import LaneClient
from flowherd.lane.messages import FOLLOWED, LINES
from tests.support.dialect import Client
from tests.support.lane import lane_of
from tests.support.waiting import wait_until


def _line(client: Client, run_id: str, **more: Any) -> None:
    client.do("write_run_logs", logs=[{"flow_run_id": run_id, "message": "a line", **more}])


def test_a_follower_is_pushed_lines_of_its_run_however_they_came(client: Client) -> None:
    run_id, other = client.create_run(), client.create_run()
    with lane_of(client.server) as lane, lane_of(client.server) as agent:
        assert lane.request("follow", flow_run_id=run_id.upper()).head == {}
        _line(client, other)
        _line(client, run_id)
        agent.request("report", logs=[{"flow_run_id": run_id, "message": "over the lane"}])
        so_far = {"info": {"stream": "stdout"}, "timestamp": "2030-01-01T00:00:00Z", "so_far": True}
        _line(client, run_id, **so_far)
        for _ in range(3):
            push = lane.wait_for_push(20)
            assert push is not None
            assert push.head == {"push": LINES, "flow_run_id": run_id}
        assert lane.wait_for_push(0.05) is None


def test_agents_are_told_which_runs_are_followed_and_when_that_ends(client: Client) -> None:
    run_id = client.create_run()
    with lane_of(client.server, agent_id=client.agent("followed").agent_id) as agent:
        agent.request("subscribe", holder=uuid.uuid4().hex, labels=["followed"], room=0)

        def told(agent: LaneClient) -> list[str]:
            while (push := agent.wait_for_push(20)) is not None:
                if push.head["push"] == FOLLOWED:
                    assert (push.head["work"], push.head["ends"]) == (False, False)
                    return list(push.head["flow_run_ids"])
            raise AssertionError("nothing was told")

        with lane_of(client.server) as first, lane_of(client.server) as second:
            first.request("follow", flow_run_id=run_id)
            assert told(agent) == [run_id]
            second.request("follow", flow_run_id=run_id)
            with lane_of(client.server, agent_id=client.agent("later").agent_id) as later:
                later.request("subscribe", holder=uuid.uuid4().hex, labels=["later"], room=0)
                assert told(later) == [run_id]
        assert told(agent) == []


def test_a_wait_for_the_end_also_returns_for_lines_once_they_are_followed(client: Client) -> None:
    run_id = client.create_run()
    transport = GraphQLTransport(client.server.url)
    transport.execute("query { hello }")
    with closing(transport), closing(EndWait(transport, run_id)) as wait:
        wait.follow()
        assert wait.tells_lines
        _line(client, run_id)
        begun_s = time.monotonic()
        assert wait.wait(20) is None
        assert wait.has_lines
        assert time.monotonic() - begun_s < 20
        client.report(run_id, "Submitted")
        client.report(run_id, "Success")
        wait_until(lambda: wait.wait(20))
        assert not wait.has_lines
