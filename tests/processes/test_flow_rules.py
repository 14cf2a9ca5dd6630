"""The rules of flows with two real agents at a real server: how many runs are under way, and further attempts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flowherd import LocalAgent
from flowherd.backends.graphql.lane_backend import LaneBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.config import load_settings
from flowherd.states import FINISHED
from tests.support.agents import going
from tests.support.commands import READY, CommandLine, background
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server
from tests.support.waiting import wait_until

#: Writes down when it begins and ends; `mkdir` of one directory a run tells a second start of the same attempt.
COUNTED = 'echo "begin $FLOWHERD_FLOW_RUN_ID" >> {file}; sleep 0.2; echo "end $FLOWHERD_FLOW_RUN_ID" >> {file}'
#: Fails with exit code 3 until it has been started often enough.
THIRD_TIME = "echo start >> {file}; n=$(wc -l < {file}); echo this is try $n; [ $n -ge 3 ] || exit 3"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with none_left(), running_server(tmp_path_factory.mktemp("rules") / "data") as server:
        yield server


@pytest.fixture
def client(server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """The server, with two agents that take the same runs."""
    with ExitStack() as stack:
        for name in ("one", "two"):
            monkeypatch.setenv("FLOWHERD_HOME", str(tmp_path / name))
            backend = LaneBackend(GraphQLTransport(server.url), 15)
            stack.enter_context(going(LocalAgent(name=name, labels=["x"], hostname_label=False, backend=backend)))
        yield Client(server)


def runs(client: Client, script: str, count: int, **rules: Any) -> list[str]:
    storage = {"type": "Command", "argv": ["sh", "-c", script]}
    flow = client.flow(storage=storage, run_config={"type": "LocalRun", "labels": ["x"]}, flowherd=rules)
    return [client.create_run(flow) for _ in range(count)]


def ended(client: Client, run_ids: list[str]) -> list[str]:
    """Wait for the ends of these runs; return their states."""

    def states() -> list[str]:
        return [client.run(run_id)["state"] for run_id in run_ids]

    wait_until(lambda: set(states()) <= FINISHED, timeout_s=60, what=lambda: str(states()))
    return states()


def most_at_once(file: Path) -> int:
    most = now = 0
    for line in file.read_text().splitlines():
        now += 1 if line.startswith("begin") else -1
        most = max(most, now)
    return most


def test_no_more_runs_go_at_once_than_may_and_each_goes_once(client: Client, tmp_path: Path) -> None:
    run_ids = runs(client, COUNTED.format(file=tmp_path / "seen"), 5, max_running=2)
    assert ended(client, run_ids) == ["Success"] * 5
    begun = [line.split()[1] for line in (tmp_path / "seen").read_text().splitlines() if line.startswith("begin")]
    assert (sorted(begun), most_at_once(tmp_path / "seen")) == (sorted(run_ids), 2)


def test_replace_ends_the_process_of_the_run_whose_place_is_taken(client: Client, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script = f'echo "begin $FLOWHERD_FLOW_RUN_ID" >> {seen}; [ -e {tmp_path}/go ] || exec sleep 100'
    [first] = runs(client, script, 1, overlap="replace")
    wait_until(lambda: client.run(first)["state"] == "Running" and seen.exists())
    (tmp_path / "go").touch()
    second = client.create_run(client.run(first, "flow_id")["flow_id"])
    assert ended(client, [first, second]) == ["Cancelled", "Success"]


def test_a_run_is_tried_again_until_it_succeeds_with_a_log_for_each_attempt(client: Client, tmp_path: Path) -> None:
    [run_id] = runs(client, THIRD_TIME.format(file=tmp_path / "starts"), 1, retries=5, retry_on=["exit:3"])
    assert ended(client, [run_id]) == ["Success"]
    assert (tmp_path / "starts").read_text().count("start") == 3
    fields = "attempts(order_by: {number: asc}) { number state reason exit_code journal cpu_time start_time end_time }"
    attempts = client.run(run_id, fields)["attempts"]
    assert [(each["state"], each["reason"], each["exit_code"]) for each in attempts] == [
        ("Failed", "exited", 3),
        ("Failed", "exited", 3),
        ("Success", "exited", 0),
    ]
    assert all(each["cpu_time"] is not None and each["start_time"] < each["end_time"] for each in attempts)
    lines = client.run(run_id, 'logs(where: {stream: {_eq: "stdout"}}, order_by: {id: asc}) { message journal }')[
        "logs"
    ]
    assert [(line["message"], line["journal"]) for line in lines] == [
        (f"this is try {number}", attempts[number - 1]["journal"]) for number in (1, 2, 3)
    ]


def test_the_last_attempt_fails_with_its_cause(client: Client) -> None:
    [run_id] = runs(client, "exit 4", 1, retries=1, retry_delay_s=0.1)
    assert ended(client, [run_id]) == ["Failed"]
    assert client.run(run_id, "state_message attempt") == {
        "state_message": "The flow process exited with code 4. It was attempt 2 of 2.",
        "attempt": 2,
    }


def labelled(client: Client, label: str, script: str, count: int) -> list[str]:
    storage = {"type": "Command", "argv": ["sh", "-c", script]}
    flow = client.flow(storage=storage, run_config={"type": "LocalRun", "labels": ["limited", label]})
    return [client.create_run(flow) for _ in range(count)]


def limited_agent(server: ServerProcess, **limits: int) -> LocalAgent:
    loaded = load_settings({"agent.label_limits": limits})
    backend = LaneBackend(GraphQLTransport(server.url), 15)
    labels = ["limited", *limits, "free"]
    return LocalAgent(name="limited", labels=labels, hostname_label=False, backend=backend, settings=loaded)


def test_a_label_limits_the_runs_of_several_flows_and_no_others(server: ServerProcess, tmp_path: Path) -> None:
    client, seen, go = Client(server), tmp_path / "seen", tmp_path / "go"
    with going(limited_agent(server, db=2)):
        held = labelled(client, "db", f"while [ ! -e {go} ]; do sleep 0.02; done", 2)
        wait_until(lambda: all(client.run(run_id)["state"] == "Running" for run_id in held))
        waits = [*labelled(client, "db", COUNTED.format(file=seen), 3), *labelled(client, "db", "true", 1)]
        assert ended(client, labelled(client, "free", "true", 2)) == ["Success"] * 2
        assert {client.run(run_id)["state"] for run_id in waits} == {"Scheduled"}
        go.touch()
        assert ended(client, [*held, *waits]) == ["Success"] * 6
    assert most_at_once(seen) <= 2


def test_runs_that_an_earlier_agent_has_left_count_too(server: ServerProcess, tmp_path: Path) -> None:
    client, go = Client(server), tmp_path / "go"
    with going(limited_agent(server, one=1)):
        [first] = labelled(client, "one", f"while [ ! -e {go} ]; do sleep 0.02; done", 1)
        wait_until(lambda: client.run(first)["state"] == "Running")
    with going(limited_agent(server, one=1)):
        [second] = labelled(client, "one", "true", 1)
        assert ended(client, labelled(client, "free", "true", 1)) == ["Success"]
        assert client.run(second)["state"] == "Scheduled"
        go.touch()
        assert ended(client, [first, second]) == ["Success", "Success"]


def test_an_agent_that_dies_when_it_has_reported_an_attempt_neither_loses_nor_doubles_one(
    server: ServerProcess, tmp_path: Path
) -> None:
    client, faults, point = Client(server), tmp_path / "faults", "after-report-end"
    faults.mkdir()
    (faults / point).write_text("1")
    environment = {"PREFECT__CLOUD__API": server.url, "FLOWHERD_FAULTS": str(faults)}
    command = CommandLine(tmp_path / "home", environment)
    start = ["start", "--label", point, "--no-hostname-label"]
    script = f"echo start >> {tmp_path}/starts; [ $(wc -l < {tmp_path}/starts) -ge 2 ]"
    storage = {"type": "Command", "argv": ["sh", "-c", script]}
    flow = client.flow(storage=storage, run_config={"type": "LocalRun", "labels": [point]}, flowherd={"retries": 3})
    run_id = client.create_run(flow)
    with background(command, *start, until=READY) as first:
        wait_until(lambda: first.process.poll() is not None)
    with background(command, *start, until=READY):
        assert ended(client, [run_id]) == ["Success"]
    assert (tmp_path / "starts").read_text().count("start") == 2
    attempts = client.run(run_id, "attempts(order_by: {number: asc}) { number state }")["attempts"]
    assert [(each["number"], each["state"]) for each in attempts] == [(1, "Failed"), (2, "Success")]
