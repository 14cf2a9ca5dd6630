"""An agent at flowherd's own server: what goes over the lane, and what it does without one."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from flowherd import LocalAgent
from flowherd.backends.graphql.lane_backend import LaneBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.errors import BackendRefused, BackendUnavailable
from flowherd.states import RunState
from flowherd.values import AgentIdentity, Claim, FlowRun, LogLine, StateReport
from tests.support.agents import RecordingAgent, going
from tests.support.dialect import Client
from tests.support.lane import lane_path
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server
from tests.support.unprivileged import AS_NOBODY, needs_setpriv
from tests.support.waiting import wait_until

#: The mutations and queries that the lane has operations for.
ON_THE_LANE = ("offer_runs", "claim_runs", "set_flow_run_states", "write_run_logs", "update_flow_run_heartbeat")
#: Id of a run that no server has.
UNKNOWN = str(uuid.UUID(int=7, version=4))
OF_ANOTHER_USER = """
import sys
from flowherd.values import AgentIdentity, Claim
from tests.processes.test_agent_lane import Recorded, backend_at
backend = backend_at(sys.argv[1], label=sys.argv[2])
(run,) = backend.offered_runs([sys.argv[2]], (), 1)
assert backend.claim_many([Claim(flow_run=run, token="other/" + run.id)]) == {run.id: None}
print(*backend.over_http)
"""


class RecordedTransport(GraphQLTransport):
    """Records what is asked over HTTP."""

    def __init__(self, url: str) -> None:
        super().__init__(url, timeout_s=15)
        self.texts: list[str] = []
        self.lane_is_used = True

    def _send(self, *args: Any, **given: Any) -> Any:
        response = super()._send(*args, **given)
        self.server_lane = self.server_lane if self.lane_is_used else None
        return response

    def _execute(self, query: str, variables: Any, headers: Any) -> Any:
        self.texts.append(query)
        return super()._execute(query, variables, headers)

    def get(self, path: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        self.texts.append(path)
        return super().get(path, params, timeout_s)


class Recorded(LaneBackend):
    def __init__(self, url: str) -> None:
        self.http = RecordedTransport(url)
        super().__init__(self.http, 15)

    @property
    def over_http(self) -> set[str]:
        """What went over HTTP although the lane has it; "wake" for a wait."""
        names = (*ON_THE_LANE, "/wake", "flow_run(")
        return {name.strip("/(") for name in names for text in self.http.texts if name in text}


def backend_at(url: str, label: str) -> Recorded:
    backend = Recorded(url)
    backend.connect()
    backend.register(AgentIdentity(type="Test", name=f"agent-{uuid.uuid4()}", labels=(label,)))
    return backend


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with none_left(), running_server(tmp_path_factory.mktemp("lane") / "data") as server:
        yield server


@pytest.fixture
def label(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def create(server: ServerProcess, label: str, count: int = 1, **document: Any) -> list[str]:
    client = Client(server)
    flow = client.flow(**document)
    return [client.create_run(flow, labels=[label]) for _ in range(count)]


def claim(run: FlowRun, holder: str = "me") -> Claim:
    return Claim(flow_run=run, token=f"{holder}/{run.id}")


def report(run_id: str, state: RunState, holder: str = "me") -> StateReport:
    return StateReport(
        flow_run_id=run_id, state=state, message="told", at=datetime.now(timezone.utc), claim=f"{holder}/{run_id}"
    )


def line(run_id: str) -> LogLine:
    return LogLine(
        flow_run_id=run_id,
        at=datetime.now(timezone.utc),
        stream="stdout",
        level=20,
        logger="x",
        message="a line",
        line_id="1",
    )


def refusal(send: Callable[[list[Any]], None], what: LogLine | StateReport) -> tuple[type[Exception], str]:
    """What sending this is refused with."""
    with pytest.raises(BackendRefused) as caught:
        send([what])
    return type(caught.value), str(caught.value).replace(what.flow_run_id, "ID")


def forwarding(server: ServerProcess, label: str) -> LocalAgent:
    return LocalAgent(labels=[label], hostname_label=False, backend=Recorded(server.url))


def recorded(agent: Any) -> Recorded:
    assert isinstance(agent.backend, Recorded)
    return agent.backend


def test_a_run_from_offer_to_end_asks_nothing_over_http(server: ServerProcess, label: str) -> None:
    client = Client(server)
    with going(forwarding(server, label)) as agent:
        wait_until(lambda: agent._own_connection.capabilities is not None and recorded(agent)._wakes._lane is not None)
        storage = {"type": "Command", "argv": ["echo", "a line"]}
        runs = create(server, label, 3, storage=storage)
        wait_until(lambda: all(client.run(run_id)["state"] == "Success" for run_id in runs))
        assert recorded(agent).over_http == set()
    for run_id in runs:
        messages = [log["message"] for log in client.run(run_id, "logs { message }")["logs"]]
        assert messages.count("a line") == 1


def test_a_cancellation_reaches_a_run_over_the_lane(server: ServerProcess, label: str) -> None:
    client = Client(server)
    with going(forwarding(server, label)) as agent:
        (run_id,) = create(server, label, storage={"type": "Command", "argv": ["sleep", "3600"]})
        wait_until(lambda: client.run(run_id)["state"] == "Running")
        client.do("cancel_flow_run", flow_run_id=run_id)
        wait_until(lambda: client.run(run_id)["state"] == "Cancelled")
        assert recorded(agent).over_http == set()


def test_polls_and_offers_at_the_same_time_start_each_run_once(server: ServerProcess, label: str) -> None:
    agent = RecordingAgent(labels=[label], no_cloud_logs=True, backend=Recorded(server.url))
    with going(agent):
        wait_until(lambda: agent._own_connection.capabilities is not None)
        client = Client(server)
        flow = client.flow()
        runs = []
        for _ in range(40):
            agent.poke()
            runs.append(client.create_run(flow, labels=[label]))
        wait_until(lambda: len(set(agent.deployed)) == len(runs) and not agent.submitting_flow_runs)
    assert Counter(agent.deployed) == Counter(runs)


def test_requests_have_the_outcomes_that_they_have_over_graphql(server: ServerProcess, label: str) -> None:
    both = [backend_at(server.url, f"{label}-{number}") for number in range(2)]
    both[1].http.lane_is_used, both[1].http.server_lane = False, None
    client, seen = Client(server), []
    for number, backend in enumerate(both):
        labels, (run_id,) = [f"{label}-{number}"], create(server, f"{label}-{number}")
        (run,) = backend.offered_runs(labels, (), 1)
        assert backend.offered_runs(labels, {run_id}, 1) == []
        lost = backend.claim_many([claim(run), claim(run), claim(run, "another")])[run_id]
        backend.heartbeat([run_id])
        stored = backend.stored_states([run_id, str(uuid.uuid4())])[run_id]
        for _ in range(2):  # the second changes nothing
            backend.deliver([line(run_id)], [report(run_id, RunState.RUNNING), report(run_id, RunState.SUCCESS)])
        refusals = [
            refusal(backend.report_together, report(run_id, RunState.FAILED)),
            refusal(backend.write_logs, line(UNKNOWN)),
            refusal(backend.report_together, report(UNKNOWN, RunState.FAILED)),
        ]
        backend.close()
        lines = client.run(run_id, "logs { message level }")["logs"]
        seen.append((str(lost).replace(run_id, "ID"), stored.state, stored.claim == f"me/{run_id}", refusals, lines))
    assert seen[0] == seen[1]
    assert seen[0][0] != "None"
    assert both[0].over_http == set()


def test_an_agent_goes_on_over_http_when_the_socket_is_gone_and_over_the_lane_when_it_is_back(
    tmp_path: Path, label: str
) -> None:
    with running_server(tmp_path / "data") as server:
        backend = backend_at(server.url, label)
        backend.heartbeat([str(uuid.uuid4())])
        assert backend.over_http == set()
        lane_path(server).unlink()
        other = backend_at(server.url, label)
        other.heartbeat([str(uuid.uuid4())])
        assert other.over_http == {"update_flow_run_heartbeat"}
        with going(forwarding(server, label)) as agent:
            client, (run_id,) = Client(server), create(server, label)
            wait_until(lambda: client.run(run_id)["state"] == "Success")
            server.stop()
            with pytest.raises(BackendUnavailable):
                backend.heartbeat([str(uuid.uuid4())])
            server.start()
            backend.http.texts.clear()
            backend.stored_states([run_id])  # over HTTP, which tells that the server is another one
            assert backend.over_http == {"flow_run"}
            backend.http.texts.clear()
            assert backend.stored_states([run_id])[run_id].state is RunState.SUCCESS
            assert backend.over_http == set()
            wait_until(lambda: recorded(agent)._wakes._lane is not None)
            (second,) = create(server, label)
            wait_until(lambda: client.run(second)["state"] == "Success")
        backend.close()
        other.close()


def test_a_server_without_a_lane_is_asked_over_http(tmp_path: Path, label: str) -> None:
    (tmp_path / "data" / "lane.sock").mkdir(parents=True)
    with running_server(tmp_path / "data") as server, going(forwarding(server, label)) as agent:
        client, (run_id,) = Client(server), create(server, label)
        wait_until(lambda: client.run(run_id)["state"] == "Success")
        assert {"offer_runs", "claim_runs", "set_flow_run_states"} <= recorded(agent).over_http


@needs_setpriv
def test_an_agent_of_another_user_goes_on_over_http(server: ServerProcess, label: str) -> None:
    create(server, label)
    done = subprocess.run(
        [*AS_NOBODY, sys.executable, "-c", OF_ANOTHER_USER, server.url, label],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() and {"offer_runs", "claim_runs"} <= {*done.stdout.split()}
