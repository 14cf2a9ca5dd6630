"""The account of a run's end: stored beside the state, shown as a field of the run, sent to flowherd's server alone."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from flowherd import LocalAgent
from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.lane_backend import LaneBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.host.store.state_directory import StateDirectory
from flowherd.states import RunState
from flowherd.story.account import Account, RunEvent, account_as_json, read_account
from flowherd.values import AgentIdentity, StateReport
from flowherd_runner.contract.spec import AgentKeys, RunSpec
from tests.support.agents import going
from tests.support.dialect import Client
from tests.support.http_server import Answer, Request, http_server
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

ACCOUNT = Account(evidence="wait status: killed by SIGKILL (9)", signal=9, events=(RunEvent(at_s=1e9, what="killed"),))
BACKENDS = pytest.mark.parametrize("kind", [GraphQLBackend, LaneBackend])


def end_of(run_id: str) -> StateReport:
    return StateReport(
        flow_run_id=run_id,
        state=RunState.FAILED,
        message="It was killed.",
        at=datetime.now(timezone.utc),
        claim=f"me/{run_id}",
        reason="signal",
        figures=(("cpu_time_s", 1.5),),
        account=account_as_json(ACCOUNT),
    )


def account_of(client: Client, run_id: str) -> Any:
    return client.run(run_id, "account")["account"]


def marks(client: Client, run_id: str) -> dict[str, Any]:
    """What the stored states of the run's end have of flowherd."""
    found = client.run(run_id, "serialized_state states(order_by: {version: desc}, limit: 1) { serialized_state }")
    both = [found["serialized_state"], found["states"][0]["serialized_state"]]
    assert both[0] == both[1]
    return dict(both[0]["context"]["flowherd"])


@BACKENDS
def test_an_account_is_stored_beside_the_state_and_once(
    client: Client, shared_server: ServerProcess, kind: type[GraphQLBackend]
) -> None:
    transport = GraphQLTransport(shared_server.url)
    backend = LaneBackend(transport, 5.0) if kind is LaneBackend else GraphQLBackend(transport)
    backend.connect()
    backend.register(AgentIdentity(type="LocalAgent", name="accounts", labels=()))
    run_id = client.create_run()
    client.report(run_id, "Submitted", 1, f"me/{run_id}")
    client.report(run_id, "Running", 2, f"me/{run_id}")
    assert account_of(client, run_id) is None
    for _ in range(2):  # its answer was lost
        backend.deliver([], [end_of(run_id)])
    backend.close()
    assert read_account(account_of(client, run_id)) == ACCOUNT
    assert "account" not in marks(client, run_id)
    assert marks(client, run_id)["figures"] == {"cpu_time_s": 1.5}


def test_of_a_run_without_an_account_the_figures_of_its_state_are_shown(client: Client) -> None:
    run_id = client.create_run()
    client.report(run_id, "Running")
    context = {"flowherd": {"claim": "c", "figures": {"exit_code": 3, "cpu_time_s": 0.5}}}
    client.report(run_id, "Failed", context=context)
    assert account_of(client, run_id) == {"exit_code": 3, "cpu_time_s": 0.5}
    other = client.create_run()
    client.report(other, "Failed")
    assert account_of(client, other) is None


def test_an_account_that_is_none_or_too_large_does_not_keep_the_end_from_being_stored(client: Client) -> None:
    for account in ("text", [1], {"evidence": "x" * 30_000}):
        run_id = client.create_run()
        client.report(run_id, "Running")
        client.report(run_id, "Failed", context={"flowherd": {"account": account}})
        assert (client.run(run_id)["state"], account_of(client, run_id)) == ("Failed", None)
        assert marks(client, run_id) == {}


def test_an_account_goes_with_its_run(client: Client) -> None:
    run_id = client.create_run()
    client.report(run_id, "Running")
    client.report(run_id, "Failed", context={"flowherd": {"account": account_as_json(ACCOUNT)}})
    assert account_of(client, run_id) is not None
    client.do("delete_flow_run", flow_run_id=run_id)
    assert client.run(run_id) is None


def test_a_server_that_does_not_announce_accounts_is_sent_none() -> None:
    sent: list[str] = []

    def answer(request: Request) -> Answer:
        sent.append(json.loads(request.body)["variables"])
        data: dict[str, Any] = {"set_flow_run_states": {"states": []}}
        return Answer(body=json.dumps({"data": data}).encode())

    run_id = "211f04ad-22d0-4ec2-a018-12f0f1e7774c"
    with http_server(answer) as url:
        backend = GraphQLBackend(GraphQLTransport(url))
        backend.report_together([replace(end_of(run_id), claim="c")])
        backend.close()
    assert '"reason"' in sent[0] and "account" not in sent[0]


def test_a_run_whose_own_engine_reports_its_end_has_an_account_too(
    client: Client, shared_server: ServerProcess, clean_environment: Path
) -> None:
    """The test is the engine; its run is one that an earlier agent has claimed and not started."""
    run_id, state = client.create_run(), StateDirectory(clean_environment / "agents" / "agent")
    token = f"{state.identity}/{run_id}"
    go = clean_environment / "go"
    argv = ["sh", "-c", f"touch {go}.up; until test -e {go}; do sleep 0.02; done; exit 3"]
    keys = AgentKeys(claim=token, attempt="1", interpreter="python3", has_engine=True)
    os.close(state.run_directory(run_id).create(RunSpec(run_id, kind="command", target={"argv": argv}, agent=keys)))
    state.close()
    client.report(run_id, "Submitted", 1, token)
    backend = LaneBackend(GraphQLTransport(shared_server.url), 5.0)
    with going(LocalAgent(backend=backend, hostname_label=False)):
        wait_until(Path(f"{go}.up").exists)
        client.report(run_id, "Running")
        client.report(run_id, "TimedOut")
        go.touch()
        wait_until(lambda: account_of(client, run_id) is not None)
    found = read_account(account_of(client, run_id))
    assert found is not None and found.exit_code == 3
    assert client.run(run_id) == {"state": "TimedOut", "version": 4}
