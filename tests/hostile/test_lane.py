"""The lane against clients that send anything, read nothing, or are many, and a database that cannot be written now."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import struct
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowherd.lane.client import LaneClosed, LaneRefused
from flowherd.lane.frames import encode
from flowherd.lane.messages import BAD_REQUEST, HELLO, REFUSED, VERSION, WAKE
from tests.support.dialect import Client, report
from tests.support.lane import bare_lane, frames_until_closed, lane_of, lane_path
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server
from tests.support.unprivileged import NOBODY, needs_root, reachable_directory
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with none_left(), reachable_directory() as place, running_server(place / "data", restore_grace=1) as server:
        yield server


@pytest.fixture(scope="module")
def run_id(server: ServerProcess) -> str:
    return Client(server).create_run()


def is_served(server: ServerProcess) -> bool:
    with lane_of(server) as lane:
        return lane.request("states", flow_run_ids=[]).head == {"flow_runs": []}


REQUEST = encode({"id": 1, "op": "states"})
#: Stands for a run that exists.
SOME_RUN = str(uuid.uuid4())
ID = st.just(SOME_RUN)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | ID,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
STATE = st.fixed_dictionaries({"type": st.sampled_from(["Running", "Success", "Lost", 7])}, optional={"context": ANY})
ENTRY = st.fixed_dictionaries(
    {"flow_run_id": ID | ANY},
    optional={"version": ANY, "claim": st.text(max_size=4) | ANY, "task_runs": ANY, "state": STATE | ANY}
    | {"message": ANY, "level": ANY, "timestamp": ANY, "line_id": ANY, "info": ANY, "so_far": ANY},
)
PIECE = (
    st.fixed_dictionaries(
        {
            "flow_run_id": ID | ANY,
            "attempt": st.text(max_size=4),
            "offset": st.integers(0, 9),
            "size": st.integers(0, 30),
        },
        optional={"certain": ANY},
    )
    | ANY
)
HEADS = st.fixed_dictionaries(
    {"op": st.sampled_from(["subscribe", "room", "offer", "claim", "report", "states", "heartbeat", "hello", "wait"])},
    optional={"holder": st.text(max_size=4) | ANY, "room": ANY, "labels": ANY, "exclude": ANY, "lane": st.just(1) | ANY}
    | {name: st.lists(ENTRY, max_size=2) | ANY for name in ("claims", "states", "logs")}
    | {"flow_run_ids": st.lists(ID, max_size=2) | ANY, "agent_id": ID | ANY, "journals": st.lists(PIECE, max_size=2)},
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(heads=st.lists(HEADS, max_size=4), body=st.binary(max_size=60))
def test_any_request_is_answered_and_none_is_an_error_of_the_server(
    server: ServerProcess, run_id: str, heads: list[dict[str, Any]], body: bytes
) -> None:
    with bare_lane(server) as connected:
        requests = [{"op": HELLO, "lane": VERSION}, *heads]
        data = b"".join(encode({"id": number, **head}, body) for number, head in enumerate(requests))
        connected.sendall(data.replace(SOME_RUN.encode(), run_id.encode()))
        connected.shutdown(socket.SHUT_WR)
        frames = frames_until_closed(connected)
    kinds = {frame.head["error"] for frame in frames if "error" in frame.head}
    assert kinds <= {BAD_REQUEST, REFUSED, "other_version"}, frames


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.lists(st.binary(max_size=40) | st.just(REQUEST), max_size=3), greets=st.booleans())
def test_any_bytes_end_with_a_closed_connection_at_worst(
    server: ServerProcess, data: list[bytes], greets: bool
) -> None:
    with bare_lane(server) as connected, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connected.sendall(encode({"id": 0, "op": HELLO, "lane": VERSION}) if greets else b"")
        connected.sendall(b"".join(data))
        connected.shutdown(socket.SHUT_WR)
        frames_until_closed(connected)
    assert is_served(server)


def test_a_client_that_does_not_read_holds_up_no_other_and_is_dropped(server: ServerProcess) -> None:
    client = Client(server)
    run_id = client.create_run()
    client.report(run_id, "Submitted")
    client.report(run_id, "Failed", None, None, data="x" * 900_000)
    with bare_lane(server) as connected:
        connected.sendall(encode({"id": 0, "op": HELLO, "lane": VERSION}))
        for number in range(1, 40):
            connected.sendall(encode({"id": number, "op": "states", "flow_run_ids": [run_id]}))
        assert is_served(server)
        received = sum(len(json.dumps(frame.head)) for frame in frames_until_closed(connected))
        assert received < 30 * 900_000


def test_connections_over_the_limit_are_closed_and_http_still_has_room(server: ServerProcess) -> None:
    with contextlib.ExitStack() as stack:
        half = struct.pack(">I", 1000) + b"half"
        for _ in range(600):
            connected = stack.enter_context(socket.socket(socket.AF_UNIX))
            connected.connect(str(lane_path(server)))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connected.send(half)
        assert server.get("/health").ok
        with pytest.raises(LaneClosed), lane_of(server):
            pass
    wait_until(lambda: opens(server))


def opens(server: ServerProcess) -> bool:
    try:
        return is_served(server)
    except LaneClosed:
        return False


_AS_OTHER = """
import os, socket, sys
place = os.open(sys.argv[1], os.O_PATH)
os.setgid({nobody}); os.setuid({nobody})
with socket.socket(socket.AF_UNIX) as connected:
    connected.settimeout(20)
    connected.connect(f"/proc/self/fd/{{place}}/lane.sock")
    print(connected.recv(1))
"""


@needs_root
def test_another_user_is_sent_away_even_if_the_sockets_mode_lets_it_in(server: ServerProcess) -> None:
    command = [sys.executable, "-c", _AS_OTHER.format(nobody=NOBODY), str(server.data_dir)]
    path = lane_path(server)
    for directory in (server.data_dir, path):
        directory.chmod(0o777)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    finally:
        path.chmod(0o600)
        server.data_dir.chmod(0o700)
    assert done.stdout.strip() == "b''", done.stderr
    wait_until(lambda: f"user {NOBODY} may not use {path}" in server.stderr)


def test_while_nothing_can_be_written_health_and_wakes_go_on(server: ServerProcess) -> None:
    client = Client(server)
    agent = client.agent("label-of-a-slow-disk")
    run_id = client.create_run(labels=["label-of-a-slow-disk"])
    with lane_of(server, agent_id=agent.agent_id) as waiting, lane_of(server) as asking:
        waiting.request("subscribe", holder="holder", labels=["label-of-a-slow-disk"], room=1)
        other = sqlite3.connect(server.data_dir / "flowherd.sqlite", isolation_level=None)
        with contextlib.closing(other):
            other.execute("BEGIN IMMEDIATE")
            claim = {"flow_run_id": run_id, "version": 1, "claim": "token"}
            asked = asking.send("claim", claims=[claim])
            assert asking.wait_for_push(0.2) is None
            assert server.get("/health").ok
            assert server.post("/poke").json()["agents"] == 1
            push = waiting.wait_for_push(20)
            assert push is not None
            assert push.head["push"] == WAKE
            assert client.run(run_id, "state") == {"state": "Scheduled"}
            other.execute("ROLLBACK")
        assert asking.answer_to(asked).head["claims"][0]["won"]


def test_a_restored_database_is_known_over_the_lane_and_hands_out_nothing_for_a_while(server: ServerProcess) -> None:
    client = Client(server)
    label = f"label-{uuid.uuid4()}"
    run_id = client.create_run(labels=[label])
    with lane_of(server) as lane:
        (server.data_dir / "flowherd.sqlite").rename(server.data_dir / "aside")
        claim = {"flow_run_id": run_id, "version": 1, "claim": "token"}
        with pytest.raises((LaneRefused, LaneClosed)) as refusal:
            lane.request("claim", claims=[claim])
        assert isinstance(refusal.value, LaneClosed) or refusal.value.is_temporary
        server.wait_for_end()
        with pytest.raises(LaneClosed):
            lane.request("states", flow_run_ids=[])
    (server.data_dir / "aside").rename(server.data_dir / "flowherd.sqlite")
    server.start()
    agent = Client(server).agent(label)
    with lane_of(server, agent_id=agent.agent_id) as lane:
        assert lane.server["restored"] is True
        lane.request("subscribe", holder="holder", labels=[label])
        late_id = client.create_run(labels=[label])
        assert lane.request("offer", holder="holder", labels=[label]).head == {"flow_runs": []}
        pushed = []
        while not pushed:
            push = lane.wait_for_push(20)
            assert push is not None
            assert push.head["push"] == WAKE
            pushed = lane.request("offer", holder="holder", labels=[label]).head["flow_runs"]
        assert {run["id"] for run in pushed} <= {run_id, late_id}
        lane.request("report", states=[report(late_id, "Running")])


def test_what_was_answered_is_there_after_the_server_is_killed(server: ServerProcess) -> None:
    client = Client(server)
    flow = client.flow()
    runs = [client.create_run(flow) for _ in range(30)]
    with lane_of(server) as lane, contextlib.suppress(LaneClosed):
        asked = [lane.send("claim", claims=[{"flow_run_id": each, "version": 1, "claim": "token"}]) for each in runs]
        answered = 0
        for request_id in asked:
            assert lane.answer_to(request_id).head["claims"][0]["won"]
            answered += 1
            if answered == 10:
                server.kill()
    server.start()
    assert answered >= 10
    states = [client.run(each)["state"] for each in runs]
    assert states[:answered] == ["Submitted"] * answered
