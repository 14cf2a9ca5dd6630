"""The lane of a real server: who finds it, who may speak, and what is refused."""

from __future__ import annotations

import os
import socket
import stat
import struct
import uuid
from pathlib import Path
from urllib.parse import unquote

import pytest

from flowherd.lane.client import LaneClient, LaneClosed, LaneRefused
from flowherd.lane.frames import encode
from flowherd.lane.messages import BAD_REQUEST, HELLO, OTHER_VERSION, UNKNOWN_OP, VERSION
from flowherd.socket_path import short_path
from tests.support.dialect import Client
from tests.support.lane import bare_lane, frames_until_closed, lane_of, lane_path
from tests.support.server import ServerProcess, running_server

TOKEN = "a-token-of-a-test"


def test_an_answer_over_http_names_the_lane_and_its_hello_the_same_life_of_the_server(client: Client) -> None:
    headers = client.answer("query { hello }").headers
    assert unquote(headers["X-Flowherd-Lane"]) == str(lane_path(client.server))
    with lane_of(client.server, instance=headers["X-Flowherd-Instance"]) as lane:
        assert lane.server["version"] == headers["X-Flowherd-Server"]
        assert lane.server["restored"] is False
        assert {"states", "heartbeat"} <= lane.operations


def test_the_socket_is_for_its_user_alone(shared_server: ServerProcess) -> None:
    assert stat.S_IMODE(lane_path(shared_server).lstat().st_mode) == 0o600


def test_the_lane_of_another_server_is_left_alone(shared_server: ServerProcess) -> None:
    with pytest.raises(LaneClosed, match="not that of the server"):
        LaneClient(lane_path(shared_server), 20, instance="of-another")


def test_states_and_heartbeats_are_those_of_graphql(client: Client) -> None:
    run_id = client.create_run()
    with lane_of(client.server) as lane:
        lane.request("heartbeat", flow_run_ids=[run_id.upper(), str(uuid.uuid4())])
        states = lane.request("states", flow_run_ids=[run_id, str(uuid.uuid4())]).head["flow_runs"]
    assert (
        states
        == client.ask(f'{{ flow_run(where: {{id: {{_eq: "{run_id}"}}}}) {{ id version state serialized_state }} }}')[
            "flow_run"
        ]
    )
    assert client.run(run_id, "heartbeat")["heartbeat"] is not None


def test_one_bad_request_among_many_is_refused_alone(client: Client) -> None:
    run_id = client.create_run()
    with lane_of(client.server) as lane:
        asked = [lane.send("heartbeat", flow_run_ids=ids) for ids in ([run_id], ["no-uuid"], 7, [])]
        assert lane.answer_to(asked[0]).head == {}
        for bad in asked[1:3]:
            with pytest.raises(LaneRefused) as refusal:
                lane.answer_to(bad)
            assert refusal.value.kind == BAD_REQUEST
        assert lane.answer_to(asked[3]).head == {}


def test_an_operation_that_the_server_lacks_is_refused_and_the_lane_stays_open(shared_server: ServerProcess) -> None:
    with lane_of(shared_server) as lane:
        lane.operations |= {"of_a_later_release"}
        with pytest.raises(LaneRefused) as refusal:
            lane.request("of_a_later_release")
        assert refusal.value.kind == UNKNOWN_OP
        lane.request("states", flow_run_ids=[])


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encode({"id": 1, "op": "states"}), BAD_REQUEST),
        (encode({"id": 1, "op": HELLO, "lane": VERSION + 1}), OTHER_VERSION),
        (encode({"id": 1, "op": HELLO, "lane": VERSION, "agent_id": "no-uuid"}), BAD_REQUEST),
        (encode({"op": HELLO, "lane": VERSION}), BAD_REQUEST),
        (encode({"id": 1, "op": ["hello"]}), BAD_REQUEST),
        (struct.pack(">I", 0xFFFFFFFF), BAD_REQUEST),
        (b"POST /graphql HTTP/1.1\r\nHost: localhost\r\n\r\n", BAD_REQUEST),
    ],
)
def test_who_does_not_begin_with_a_hello_is_told_why_and_sent_away(
    shared_server: ServerProcess, data: bytes, kind: str
) -> None:
    with bare_lane(shared_server) as connected:
        connected.sendall(data)
        (answer,) = frames_until_closed(connected)
    assert answer.head["error"] == kind


def test_a_client_that_sends_half_a_frame_and_goes_does_no_harm(shared_server: ServerProcess) -> None:
    with bare_lane(shared_server) as connected:
        connected.sendall(encode({"id": 0, "op": HELLO, "lane": VERSION})[:-3])
    with lane_of(shared_server) as lane:
        lane.request("states", flow_run_ids=[])


def test_a_path_that_is_too_long_for_an_address_of_a_socket_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / "ø ä" / ("e" * 60)
    deep.mkdir(parents=True)
    with running_server(deep / "data", token=TOKEN) as server:
        path = lane_path(server)
        assert len(os.fsencode(path)) > 108
        assert unquote(server.get("/health").headers["X-Flowherd-Lane"]) == str(path)
        server.token = ""
        assert "X-Flowherd-Lane" not in server.get("/health").headers
        with lane_of(server) as lane:
            server.stop()
            with pytest.raises(LaneClosed):
                lane.request("states", flow_run_ids=[])
        assert not path.exists()
        # What a killed server leaves is replaced; what is no longer there is no reason not to start.
        with socket.socket(socket.AF_UNIX) as stale, short_path(path.parent, path.name) as short:
            stale.bind(short)
        server.start()
        with lane_of(server) as lane:
            lane.request("states", flow_run_ids=[])
