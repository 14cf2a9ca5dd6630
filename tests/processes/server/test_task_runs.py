"""Task runs: finding them, reporting their states, and claiming flow runs again for task runs that waited."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.support.dialect import Client, task_report

NOBODY = "00000000-0000-0000-0000-000000000000"


def in_seconds(seconds: float) -> str:
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat()


def asked_inline(client: Client, operation: str, selection: str, **given: Any) -> Any:
    """Send the mutation as Prefect's engine does: with the input in the text instead of variables."""
    arguments = ", ".join(
        f'{key}: "{value}"' if isinstance(value, str) else f"{key}: {value}" for key, value in given.items()
    )
    return client.ask(f"mutation {{ {operation}(input: {{ {arguments} }}) {{ {selection} }} }}")[operation]


def states_of(client: Client, task_run_id: str) -> list[str]:
    return [
        row["state"] for row in client.task_run(task_run_id, "states(order_by: {version: asc}) { state }")["states"]
    ]


def test_both_engines_find_a_task_run_and_create_the_children_of_a_mapped_one(client: Client) -> None:
    run_id = client.create_run(client.flow(tasks=[{"slug": "a-1", "cache_key": "k"}]))
    parent = client.run(run_id, "task_runs { id task_id serialized_state }")["task_runs"][0]
    which = {"flow_run_id": run_id, "task_id": parent["task_id"]}
    info = asked_inline(client, "get_or_create_task_run_info", "serialized_state id version", **which, map_index=-1)
    assert info == {"id": parent["id"], "version": 0, "serialized_state": parent["serialized_state"]}
    assert info["serialized_state"]["type"] == "Pending"
    child = asked_inline(client, "get_or_create_task_run", "id", **which, map_index=1)["id"]
    assert asked_inline(client, "get_or_create_task_run_info", "id", **which, map_index=1) == {"id": child}
    assert asked_inline(client, "get_or_create_task_run", "id", **which) == {"id": parent["id"]}
    found = client.task_run(child, "map_index cache_key state version serialized_state task { slug } states { state }")
    del found["serialized_state"]
    pending = {"map_index": 1, "cache_key": "k", "state": "Pending", "version": 0, "states": [{"state": "Pending"}]}
    assert found == {**pending, "task": {"slug": "a-1"}}


def test_a_task_run_is_only_created_for_a_task_of_the_flow(client: Client) -> None:
    run_id = client.create_run()
    other = client.run(client.create_run(client.flow(tasks=[{"slug": "a"}])), "task_runs { task_id }")["task_runs"][0]
    for given in (
        {"flow_run_id": run_id, "task_id": other["task_id"]},
        {"flow_run_id": run_id, "task_id": NOBODY},
        {"flow_run_id": NOBODY, "task_id": other["task_id"]},
    ):
        assert "not found" in client.refused("get_or_create_task_run", **given, map_index=0)
    assert "map_index" in client.refused("get_or_create_task_run", flow_run_id=run_id, task_id=NOBODY, map_index=-2)


@pytest.mark.parametrize(
    "sequence",
    [
        "Running Success",
        "Running Failed Retrying Running Success",
        "Running Success Cached",
        "Cached",
        "Running Looped Running Looped Running Success",
        "Mapped",
        "Paused Resume Submitted Running Success",
        "Running Cancelled",
        "Skipped",
        "TriggerFailed",
        "Running TimedOut",
        "Running ClientFailed",
        "Running Failed Pending Running Success",
    ],
)
def test_the_engine_may_report_states_in_any_order(client: Client, sequence: str) -> None:
    _, tasks = client.going_run("a")
    for version, state in enumerate(sequence.split()):
        given = version if state in ("Running", "Submitted") else None
        assert client.report_task(tasks["a"], state, given) == "SUCCESS"
    assert states_of(client, tasks["a"]) == ["Pending", *sequence.split()]


def test_a_task_runs_times_are_its_first_start_and_its_last_end(client: Client) -> None:
    _, tasks = client.going_run("a")
    fields = "start_time end_time heartbeat state_timestamp state_message"
    client.report_task(tasks["a"], "Running", 0)
    first = client.task_run(tasks["a"], fields)
    assert first["heartbeat"] is not None
    assert first["start_time"] == first["state_timestamp"]
    client.report_task(tasks["a"], "Failed")
    assert client.task_run(tasks["a"], "end_time")["end_time"] is not None
    client.report_task(tasks["a"], "Retrying", start_time=in_seconds(1))
    assert client.task_run(tasks["a"], "end_time") == {"end_time": None}
    client.report_task(tasks["a"], "Running", 3)
    client.report_task(tasks["a"], "Success")
    last = client.task_run(tasks["a"], fields)
    assert last["start_time"] == first["start_time"] < last["end_time"]
    assert last["state_message"] == "now Success"


@pytest.mark.parametrize(
    "states", [[], ["Submitted"], ["Submitted", "Running", "Cancelling"], ["Submitted", "Success"]]
)
def test_no_task_starts_unless_its_flow_run_is_running(client: Client, states: list[str]) -> None:
    run_id = client.create_run(client.flow(tasks=[{"slug": "a"}]))
    task_run_id = client.run(run_id, "task_runs { id }")["task_runs"][0]["id"]
    for state in states:
        client.report(run_id, state)
    message, code = client.report_task_refused(task_run_id, "Running", 0)
    assert re.match(f"State update failed for task run ID {task_run_id}: .* not in a running state", message)
    assert code == "STATE_REFUSED"
    assert client.report_task(task_run_id, "Failed") == "SUCCESS"  # what has happened is accepted, whatever the version


def test_a_task_only_starts_with_the_stored_version_and_the_refusal_is_one_that_the_engine_knows(
    client: Client,
) -> None:
    _, tasks = client.going_run("a")
    client.report_task(tasks["a"], "Running", 0)
    client.report_task(tasks["a"], "Failed")
    message, code = client.report_task_refused(tasks["a"], "Running", 1)
    assert ("State update failed" in message, code) == (True, "VERSION_LOCKING_ERROR")
    query = f'query {{ get_task_run_info(task_run_id: "{tasks["a"]}") {{ serialized_state }} }}'
    assert client.ask(query)["get_task_run_info"]["serialized_state"]["type"] == "Failed"
    assert client.report_task(tasks["a"], "Running") == "SUCCESS"  # without a version, none is checked
    response = client.answer(f'{{ get_task_run_info(task_run_id: "{NOBODY}") {{ serialized_state }} }}')
    assert "not found" in response.json()["errors"][0]["message"]


def test_a_report_that_an_engine_repeats_after_a_lost_answer_changes_nothing(client: Client) -> None:
    run_id, tasks = client.going_run("a")
    for _ in range(2):
        client.report_task(tasks["a"], "Running", 0)
    for _ in range(2):
        client.report_task(tasks["a"], "Success")
    assert states_of(client, tasks["a"]) == ["Pending", "Running", "Success"]
    for _ in range(2):
        client.report(run_id, "Running", 2)
    assert client.run(run_id) == {"state": "Running", "version": 3}


def test_inputs_that_were_cached_are_carried_over(client: Client) -> None:
    _, tasks = client.going_run("a")
    inputs = {"x": {"type": "LocalResult", "location": "/somewhere"}}
    client.report_task(tasks["a"], "Running", 0)
    client.report_task(tasks["a"], "Retrying", cached_inputs=inputs, start_time=in_seconds(0))
    client.report_task(tasks["a"], "Running", 2, cached_inputs={})
    assert client.task_run(tasks["a"], "serialized_state")["serialized_state"]["cached_inputs"] == inputs
    client.report_task(tasks["a"], "Success", cached_inputs={"y": 1})
    assert client.task_run(tasks["a"], "serialized_state")["serialized_state"]["cached_inputs"] == {"y": 1}


def test_a_cached_state_is_found_by_its_key_and_never_by_null(client: Client) -> None:
    key = str(uuid.uuid4())
    run_id = client.create_run(client.flow(tasks=[{"slug": "a", "cache_key": key}, {"slug": "b"}]))
    client.report(run_id, "Submitted")
    client.report(run_id, "Running")
    rows = client.run(run_id, "task_runs { id task_id task { slug } }")["task_runs"]
    a, b = sorted(rows, key=lambda row: row["task"]["slug"])
    client.report_task(a["id"], "Cached")
    since = (datetime.now(timezone.utc) - timedelta(minutes=1)).replace(tzinfo=None).isoformat()
    query = (
        'query { task_run(where: {state: {_eq: "Cached"}, _or: [{_and: [{cache_key: {_eq: %s}}, '
        '{cache_key: {_is_null: false}}]}, {task_id: {_eq: "%s"}}], state_timestamp: {_gte: "%s"}}, limit: 100, '
        "order_by: {state_timestamp: desc}) { id serialized_state } }"
    )
    assert [row["id"] for row in client.ask(query % (f'"{key}"', NOBODY, since))["task_run"]] == [a["id"]]
    assert client.ask(query % ("null", b["task_id"], since))["task_run"] == []


def test_a_running_flow_run_is_due_again_when_its_waiting_task_is_and_wakes_an_agent(client: Client) -> None:
    label = str(uuid.uuid4())
    agent = client.agent(label)
    run_id, tasks = client.going_run("a", run_config={"labels": [label]})
    seen = agent.wake(agent.wake(), timeout=0)
    client.report_task(tasks["a"], "Running", 0)
    client.report_task(tasks["a"], "Retrying", start_time=in_seconds(3600))
    assert client.queue(label) == []
    assert client.queue(label, before=in_seconds(3700)) == [run_id]
    assert agent.wake(seen, timeout=0) == seen
    client.report_task(tasks["a"], "Paused")
    assert client.queue(label, before=in_seconds(3700)) == []
    # Due three seconds after its time, because a process that is still alive goes on by itself.
    client.report_task(tasks["a"], "Resume", start_time=in_seconds(-2.5))
    assert client.queue(label) == [run_id]
    assert agent.wake(seen) > seen


def test_of_agents_that_claim_a_waiting_task_run_exactly_one_wins(client: Client) -> None:
    label = str(uuid.uuid4())
    run_id, tasks = client.going_run("a", run_config={"labels": [label]})
    client.report_task(tasks["a"], "Retrying", start_time=in_seconds(-60))
    state = client.task_run(tasks["a"], "version serialized_state")

    def take(number: int) -> str | None:
        claim = f"claim-{number}"
        wrapping = task_report(tasks["a"], "Submitted", state["version"], claim)
        wrapping["state"]["state"] = state["serialized_state"]
        mutation = (
            "mutation($input: set_task_run_states_input!) { set_task_run_states(input: $input) { states { id } } }"
        )
        answer = client.answer(mutation, {"input": {"states": [wrapping]}}).json()
        return None if "errors" in answer else claim

    with ThreadPoolExecutor(8) as pool:
        won = [claim for claim in pool.map(take, range(8)) if claim is not None]
    assert len(won) == 1
    assert client.queue(label) == []
    assert client.report_task(tasks["a"], "Submitted", state["version"], won[0]) == "SUCCESS"
    message, _ = client.report_task_refused(tasks["a"], "Submitted", state["version"], "theirs")
    assert "State update failed for task run ID" in message
    assert client.task_run(tasks["a"]) == {"state": "Submitted", "version": 2}
    assert client.report_task(tasks["a"], "Running", 2) == "SUCCESS"
    assert client.report_task(tasks["a"], "Submitted", state["version"], won[0]) == "SUCCESS"
    assert client.task_run(tasks["a"]) == {"state": "Running", "version": 3}
    assert client.run(run_id) == {"state": "Running", "version": 3}


def test_an_agent_without_a_token_claims_a_waiting_task_run_by_its_version(client: Client) -> None:
    _, tasks = client.going_run("a")
    agent, other = client.agent(), client.agent()
    client.report_task(tasks["a"], "Retrying", start_time=in_seconds(-60))
    assert agent.report_task(tasks["a"], "Submitted", 1) == "SUCCESS"
    for version in (1, 2, None):
        assert "State update failed" in other.report_task_refused(tasks["a"], "Submitted", version)[0]
        # Two agents that were started with the same settings share one id, and do not know of each other.
        assert "State update failed" in agent.report_task_refused(tasks["a"], "Submitted", version)[0]


def test_cancelling_a_flow_run_cancels_its_running_tasks(client: Client) -> None:
    run_id, tasks = client.going_run("a", "b")
    client.report_task(tasks["a"], "Running", 0)
    client.report_task(tasks["b"], "Success")
    client.do("cancel_flow_run", flow_run_id=run_id)
    client.report(run_id, "Cancelled")
    assert client.task_run(tasks["a"]) == {"state": "Cancelled", "version": 2}
    assert client.task_run(tasks["b"]) == {"state": "Success", "version": 1}


def test_a_task_run_can_be_renamed(client: Client) -> None:
    _, tasks = client.going_run("a")
    client.do("set_task_run_name", task_run_id=tasks["a"], name="mine")
    assert client.task_run(tasks["a"], "name") == {"name": "mine"}
    assert "not found" in client.refused("set_task_run_name", task_run_id=NOBODY, name="mine")


def test_an_unknown_state_or_task_run_is_refused(client: Client) -> None:
    _, tasks = client.going_run("a")
    states = [{"task_run_id": tasks["a"], "state": {"type": "Nonsense"}}]
    assert "is not a state" in client.refused("set_task_run_states", states=states)
    assert "State update failed" in client.report_task_refused(NOBODY, "Failed")[0]
