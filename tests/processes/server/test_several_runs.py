"""cancel_flow_runs, delete_flow_runs and retry_flow_runs, the extensions by which people deal with many runs."""

from __future__ import annotations

import json
import uuid
from typing import Any

from tests.support.dialect import Client


def answers(client: Client, operation: str, *run_ids: str) -> dict[str, tuple[str | None, bool]]:
    """Carry out the operation; return state and whether it was done, by run id."""
    found = client.do(operation, flow_run_ids=list(run_ids))["flow_runs"]
    return {one["flow_run_id"]: (one["state"], one["done"]) for one in found}


def retried(client: Client, *run_ids: str, **given: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.do("retry_flow_runs", flow_run_ids=list(run_ids), **given)["flow_runs"]
    return found


def run_in(client: Client, state: str, flow_id: str | None = None, **given: Any) -> str:
    run_id = client.create_run(flow_id, **given)
    client.report(run_id, state)
    return run_id


def test_each_of_several_runs_is_cancelled_for_itself(client: Client) -> None:
    waiting, going, ended = client.create_run(), run_in(client, "Running"), run_in(client, "Failed")
    unknown = str(uuid.uuid4())
    assert answers(client, "cancel_flow_runs", waiting, going, ended, unknown, waiting) == {
        waiting: ("Cancelled", True),
        going: ("Cancelling", True),
        ended: ("Failed", False),
        unknown: (None, False),
    }
    assert client.run(going)["state"] == "Cancelling"


def test_a_run_that_an_agent_has_is_not_deleted(client: Client) -> None:
    waiting, going, ended = client.create_run(), run_in(client, "Running"), run_in(client, "Failed")
    assert answers(client, "delete_flow_runs", waiting, going, ended) == {
        waiting: ("Scheduled", True),
        going: ("Running", False),
        ended: ("Failed", True),
    }
    assert client.run(waiting) is None and client.run(ended) is None
    assert client.run(going)["state"] == "Running"
    assert "101 flow runs" in client.refused("delete_flow_runs", flow_run_ids=[str(uuid.uuid4()) for _ in range(101)])


def test_a_run_that_is_repeated_has_the_same_version_parameters_and_labels(client: Client) -> None:
    project, name = client.project(), f"flow-{uuid.uuid4()}"
    first = client.flow(project, name=name, run_config={"type": "LocalRun", "labels": ["old"]})
    by_default = run_in(client, "Failed", first, parameters={"n": 0}, context={"a": 1})
    chosen = run_in(client, "Failed", first, labels=["mine"])
    second = client.flow(project, name=name, run_config={"type": "LocalRun", "labels": ["new"]})
    fields = "repeats flow_id state parameters context labels run_config"

    def repeated(run_id: str, **given: Any) -> Any:
        return client.run(retried(client, run_id, **given)[0]["id"], fields)

    same = repeated(by_default)
    assert (same["repeats"], same["flow_id"], same["state"]) == (by_default, first, "Scheduled")
    assert (same["parameters"], same["context"], same["labels"]) == ({"n": 0}, {"a": 1}, ["old"])
    newest = repeated(by_default, latest=True)
    assert (newest["repeats"], newest["flow_id"], newest["labels"]) == (by_default, second, ["new"])
    assert newest["run_config"]["labels"] == ["new"] and newest["parameters"] == {"n": 0}
    assert repeated(chosen, latest=True)["labels"] == ["mine"]


def test_of_several_runs_those_are_repeated_that_can_be(client: Client) -> None:
    going, flow = run_in(client, "Running"), client.flow()
    gone, ended, unknown = run_in(client, "Failed", flow), run_in(client, "Failed"), str(uuid.uuid4())
    client.do("archive_flow", flow_id=flow)
    first, second, third, fourth = retried(client, going, gone, ended, unknown)
    assert first["id"] is None and "is Running; only a run that has ended" in first["message"]
    assert second["id"] is None and "no longer registered" in second["message"]
    assert third["message"] is None and client.run(third["id"], "repeats")["repeats"] == ended
    assert fourth["id"] is None and "not found" in fourth["message"]


def test_a_run_that_repeats_another_outlives_it(client: Client) -> None:
    ended = run_in(client, "Failed")
    again = retried(client, ended)[0]["id"]
    client.do("delete_flow_run", flow_run_id=ended)
    assert client.run(again, "repeats")["repeats"] == ended
    found = client.ask(f"{{ flow_run(where: {{repeats: {{_eq: {json.dumps(ended)}}}}}) {{ id }} }}")
    assert found["flow_run"] == [{"id": again}]


def test_a_run_with_other_parameters_remembers_which_one_it_repeats(client: Client) -> None:
    flow_id, nothing = client.flow(), "00000000-0000-4000-8000-000000000000"
    first = client.create_run(flow_id, parameters={"n": 1})
    second = client.create_run(flow_id, parameters={"n": 2}, repeats=first)
    assert client.run(second, "repeats parameters") == {"repeats": first, "parameters": {"n": 2}}
    assert nothing in client.refused("create_flow_run", flow_id=flow_id, repeats=nothing)
