"""Clients that wait for the end of a flow run are told by the server when it is stored, over the lane and over HTTP."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.client.run_end import EndWait
from flowherd.client.runs import RunSummary
from flowherd.lane.client import LaneRefused
from tests.support.dialect import Client
from tests.support.lane import lane_of
from tests.support.waiting import wait_until

Transport = Callable[[Client], GraphQLTransport]


def over_lane(client: Client) -> GraphQLTransport:
    transport = GraphQLTransport(client.server.url)
    transport.execute("query { hello }")
    return transport


def over_http(client: Client) -> GraphQLTransport:
    transport = over_lane(client)
    transport.server_lane = None  # as on another host
    return transport


def end_run(client: Client, run_id: str) -> None:
    client.report(run_id, "Submitted")
    client.report(run_id, "Success", message="all is well")


@pytest.mark.parametrize("transport", [over_lane, over_http])
def test_who_waits_is_told_name_state_and_message_at_the_end(client: Client, transport: Transport) -> None:
    run_id = client.create_run()
    name = client.run(run_id, "name")["name"]
    expected = RunSummary(id=run_id, name=name, state="Success", message="all is well")
    with closing(transport(client)) as opened, closing(EndWait(opened, run_id)) as wait:
        assert wait.is_told
        assert wait.wait(0.05) is None
        end_run(client, run_id)
        assert wait.wait(20) == expected
        with closing(EndWait(opened, run_id)) as late:  # it has ended already
            assert late.wait(20) == expected


def test_a_server_that_tells_nothing_is_known_for_that(client: Client) -> None:
    transport = over_http(client)
    transport.server_extensions = frozenset()
    with closing(transport), closing(EndWait(transport, client.create_run())) as wait:
        assert (wait.is_told, wait.wait(0.01)) == (False, None)


def test_many_waits_on_one_lane_are_each_answered_by_their_own_end(client: Client) -> None:
    ids = [client.create_run() for _ in range(3)]
    with lane_of(client.server) as lane:
        asked = [lane.send("wait", flow_run_id=run_id.upper()) for run_id in ids]
        with pytest.raises(LaneRefused, match="not found"):
            lane.request("wait", flow_run_id=str(uuid.uuid4()))
        for number, run_id in zip(asked, ids, strict=True):
            end_run(client, run_id)
            assert lane.answer_to(number).head["flow_run"]["id"] == run_id


def test_a_held_request_is_answered_without_an_end_after_its_time_and_with_404_for_no_run(client: Client) -> None:
    run_id, answers = client.create_run(), list[Any]()
    held = threading.Thread(target=lambda: answers.append(client.server.get(f"/flow_runs/{run_id}/end?timeout=20")))
    held.start()
    assert client.server.get(f"/flow_runs/{run_id}/end?timeout=0").json() == {"flow_run": None}
    assert client.server.get(f"/flow_runs/{uuid.uuid4()}/end").status_code == 404
    assert client.server.get("/flow_runs/x/end").status_code == 404
    end_run(client, run_id)
    wait_until(lambda: answers)
    held.join()
    assert answers[0].json()["flow_run"]["state"] == "Success"
