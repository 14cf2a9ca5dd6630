"""set_flow_run_states and cancel_flow_run: changes of state, repeated reports, and refusals."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tests.support.dialect import Client, report


def test_a_runs_states_are_its_history(client: Client) -> None:
    agent = client.agent()
    run_id = client.create_run()
    agent.report(run_id, "Submitted", 1, "c")
    assert client.run(run_id, "state version agent_id heartbeat start_time")["agent_id"] == agent.agent_id
    agent.report(run_id, "Running", 2, "c")
    agent.report(run_id, "Success", None, "c")
    found = client.run(
        run_id,
        "state version state_message serialized_state heartbeat start_time end_time duration "
        "states(order_by: {version: asc}) { state version message }",
    )
    assert (found["state"], found["version"], found["state_message"]) == ("Success", 4, "now Success")
    assert found["serialized_state"] == report(run_id, "Success", None, "c")["state"]
    assert found["heartbeat"] >= found["start_time"] <= found["end_time"]
    assert found["duration"].startswith("00:00:")
    assert [state["state"] for state in found["states"]] == ["Scheduled", "Submitted", "Running", "Success"]


def test_only_submitted_and_running_must_name_the_stored_version(client: Client) -> None:
    """An agent reports Failed with the version from before its own Submitted."""
    run_id = client.create_run()
    assert "State update failed for flow run ID" in client.report_refused(run_id, "Submitted", 0)
    client.report(run_id, "Submitted", 1)
    assert "version" in client.report_refused(run_id, "Running", 1)
    client.report(run_id, "Failed", 1)
    other = client.create_run()
    client.report(other, "Submitted")
    client.report(other, "Running")


def test_a_claimed_run_cannot_be_claimed_by_another_agent(client: Client) -> None:
    run_id = client.create_run()
    client.report(run_id, "Submitted", 1, "mine")
    for version in (1, 2, None):
        assert "State update failed" in client.report_refused(run_id, "Submitted", version, "theirs")
    assert "State update failed" in client.report_refused(run_id, "Submitted", 2)
    assert client.run(run_id) == {"state": "Submitted", "version": 2}


def test_a_claim_whose_answer_was_lost_can_be_repeated(client: Client) -> None:
    run_id = client.create_run()
    for _ in range(3):
        client.report(run_id, "Submitted", 1, "mine")
    assert client.run(run_id) == {"state": "Submitted", "version": 2}
    client.report(run_id, "Running", 2)  # by the flow's own engine, which sends no claim token
    client.report(run_id, "Submitted", 1, "mine")
    assert client.run(run_id) == {"state": "Running", "version": 3}


def test_running_again_with_the_same_claim_changes_nothing(client: Client) -> None:
    run_id = client.create_run()
    client.report(run_id, "Submitted", 1, "mine")
    client.report(run_id, "Running", 2, "mine")
    client.report(run_id, "Running", 2, "mine")
    assert client.run(run_id) == {"state": "Running", "version": 3}
    client.do("cancel_flow_run", flow_run_id=run_id)
    client.report(run_id, "Running", 2, "mine")
    assert client.run(run_id) == {"state": "Cancelling", "version": 4}


def test_a_final_state_is_final_but_may_be_repeated(client: Client) -> None:
    run_id = client.create_run()
    client.report(run_id, "Submitted", 1, "mine")
    client.report(run_id, "Running", None, "mine")
    client.report(run_id, "Failed", None, "mine")
    client.report(run_id, "Failed", None, "mine")
    assert client.run(run_id) == {"state": "Failed", "version": 4}
    for state, claim in (("Success", "mine"), ("Failed", "theirs"), ("Running", "theirs"), ("TimedOut", "mine")):
        assert "State update failed" in client.report_refused(run_id, state, None, claim)
    assert client.run(run_id) == {"state": "Failed", "version": 4}


def test_an_engine_without_claims_may_repeat_its_final_state_word_for_word(client: Client) -> None:
    run_id = client.create_run()
    client.report(run_id, "Submitted")
    client.report(run_id, "Success")
    client.report(run_id, "Success")
    assert client.run(run_id) == {"state": "Success", "version": 3}


def test_either_all_states_of_a_list_are_set_or_none(client: Client) -> None:
    first, second = client.create_run(), client.create_run()
    states = [report(first, "Submitted", 1), report(second, "Success", None)]
    assert second in client.refused("set_flow_run_states", states=states)
    assert client.run(first) == {"state": "Scheduled", "version": 1}


@pytest.mark.parametrize("state", ["Pending", "Looped", "Nonsense", None, 3])
def test_something_other_than_a_state_of_a_flow_run_is_refused(client: Client, state: object) -> None:
    run_id = client.create_run()
    given = {"flow_run_id": run_id, "state": {"type": state}}
    assert "is not a state" in client.refused("set_flow_run_states", states=[given])


def test_an_agents_time_is_stored_unless_it_is_in_the_future(client: Client) -> None:
    run_id = client.create_run()
    client.report(run_id, "Submitted")
    started = datetime.now(timezone.utc) - timedelta(hours=2)
    client.report(run_id, "Running", at=started.isoformat())
    client.report(run_id, "Success", at=(started + timedelta(hours=9)).isoformat())
    found = client.run(run_id, "start_time end_time state_timestamp")
    assert datetime.fromisoformat(found["start_time"]) == started
    assert started < datetime.fromisoformat(found["end_time"]) <= datetime.now(timezone.utc)
    assert found["state_timestamp"] == found["end_time"]


def test_a_retry_waits_for_its_time_and_can_be_claimed_again(client: Client) -> None:
    label = "retry-of-one-test"
    run_id = client.create_run(labels=[label])
    client.report(run_id, "Submitted", 1, "mine")
    client.report(run_id, "Running", None, "mine")
    later = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    client.report(run_id, "Retrying", None, "mine", start_time=later)
    assert client.queue(label) == []
    assert client.queue(label, before=later) == [run_id]
    client.report(run_id, "Submitted", 4, "theirs")
    assert client.run(run_id) == {"state": "Submitted", "version": 5}


def test_a_finished_run_that_is_scheduled_again_has_no_end(client: Client) -> None:
    run_id = client.create_run()
    client.report(run_id, "Submitted")
    client.report(run_id, "Failed")
    client.report(run_id, "Scheduled")
    assert client.run(run_id, "state end_time") == {"state": "Scheduled", "end_time": None}


@pytest.mark.parametrize(
    ("states", "answer"),
    [
        ([], "Cancelled"),
        (["Submitted"], "Cancelled"),
        (["Submitted", "Running"], "Cancelling"),
        (["Submitted", "Running", "Cancelling"], "Cancelling"),
        (["Submitted", "Success"], "Success"),
    ],
)
def test_cancelling_ends_a_waiting_run_and_requests_the_end_of_a_running_one(
    client: Client, states: list[str], answer: str
) -> None:
    run_id = client.create_run()
    for state in states:
        client.report(run_id, state)
    assert client.do("cancel_flow_run", flow_run_id=run_id) == {"state": answer}
    assert client.run(run_id, "state") == {"state": answer}
    version = client.run(run_id)["version"]
    assert client.do("cancel_flow_run", flow_run_id=run_id) == {"state": answer}
    assert client.run(run_id)["version"] == version


def test_cancelling_a_run_cancels_its_unfinished_task_runs(client: Client) -> None:
    run_id = client.create_run(client.flow(tasks=[{"slug": "a"}, {"slug": "b"}]))
    client.do("cancel_flow_run", flow_run_id=run_id)
    found = client.run(run_id, "task_runs { state version states(order_by: {version: asc}) { state } }")
    task_run = {"state": "Cancelled", "version": 1, "states": [{"state": "Pending"}, {"state": "Cancelled"}]}
    assert found["task_runs"] == [task_run, task_run]


def test_heartbeats_are_stored_and_never_refused(client: Client) -> None:
    run_id = client.create_run(client.flow(tasks=[{"slug": "a"}]))
    task_run_id = client.run(run_id, "task_runs { id }")["task_runs"][0]["id"]
    client.do("update_flow_run_heartbeat", flow_run_id=run_id)
    client.do("update_task_run_heartbeat", task_run_id=task_run_id)
    found = client.run(run_id, "heartbeat task_runs { heartbeat }")
    assert found["heartbeat"] is not None
    assert found["task_runs"][0]["heartbeat"] is not None
    client.do("update_flow_run_heartbeat", flow_run_id="00000000-0000-0000-0000-000000000000")
