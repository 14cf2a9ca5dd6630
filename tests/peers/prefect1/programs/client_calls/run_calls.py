"""Calls about runs: states of flow runs and task runs, heartbeats, logs, agents, names, cancelling."""

from __future__ import annotations

import uuid

import pendulum
import prefect
from client_helpers import PREFECT_1, ask, client, do, new_run, refused, registered
from prefect.engine import state


def call_flow_run_states():
    """Every kind of state is read back as it was written."""
    run_id = new_run()
    kinds = [
        state.Submitted(state=state.Scheduled(start_time=pendulum.now("utc")), message="submitted"),
        state.Running(message="running", context={"a": {"b": [1]}}),
        state.Failed(message="failed"),
    ]
    for kind in kinds:
        version = client.get_flow_run_info(run_id).version
        answer = client.set_flow_run_state(run_id, version=version, state=kind)
        assert answer == kind
        found = client.get_flow_run_info(run_id)
        assert type(found.state) is type(kind) and found.version == version + 1, found
        assert found.state.context == kind.context and found.state.message == kind.message
    assert isinstance(client.get_flow_run_state(run_id), state.Failed)
    refused(client.set_flow_run_state, str(uuid.uuid4()), state=state.Success())


def call_flow_run_version():
    """Running with a version that is not the stored one is an error in 0.x and a signal in 1.x."""
    run_id = new_run()
    client.set_flow_run_state(run_id, version=1, state=state.Submitted(state=state.Scheduled()))
    try:
        client.set_flow_run_state(run_id, version=1, state=state.Running())
    except BaseException as error:  # the signal is no Exception
        assert type(error).__name__.startswith("VersionLock"), repr(error)
    else:
        raise AssertionError("it was accepted")


def call_task_run_states():
    """A task run and its mapped children go through the states that real runs were seen to send."""
    run_id = new_run()
    client.set_flow_run_state(run_id, state=state.Running())
    task_run = next(t for t in client.get_flow_run_info(run_id).task_runs if "step" in t.task_slug)
    ways = [
        [
            state.Running(),
            state.Failed(),
            state.Retrying(run_count=2),
            state.Running(),
            state.Success(),
            state.Cached(),
        ],
        [state.Mapped()],
        [
            state.Paused(),
            state.Resume(),
            state.Submitted(state=state.Resume()),
            state.Running(),
            state.Looped(loop_count=2),
        ],
        [state.Skipped()],
        [state.Running(), state.TimedOut()],
        [state.TriggerFailed()],
        [state.Running(), state.Cancelled()],
    ]
    for index, way in enumerate(ways):
        info = client.get_task_run_info(run_id, task_run.task_id, map_index=index)
        again = client.get_task_run_info(run_id, task_run.task_id, map_index=index)
        assert info.id == again.id and isinstance(info.state, state.Pending), info
        for version, kind in enumerate(way, start=info.version):
            client.set_task_run_state(info.id, version=version, state=kind)
            assert type(client.get_task_run_state(info.id)) is type(kind), kind
        assert client.get_task_run_info(run_id, task_run.task_id, map_index=index).version == info.version + len(way)


def call_task_of_a_run_that_does_not_run():
    run_id = new_run()
    task_run = client.get_flow_run_info(run_id).task_runs[0]
    text = refused(client.set_task_run_state, task_run.id, state=state.Running())
    assert "State update failed" in text, text


def call_cached_states():
    run_id = new_run()
    client.set_flow_run_state(run_id, state=state.Running())
    task_run = next(t for t in client.get_flow_run_info(run_id).task_runs if "step" in t.task_slug)
    before = pendulum.now("utc").subtract(minutes=1)
    assert client.get_latest_cached_states(task_run.task_id, None, before) == []
    for number in (1, 2):
        info = client.get_task_run_info(run_id, task_run.task_id, map_index=number)
        client.set_task_run_state(info.id, state=state.Running())
        client.set_task_run_state(info.id, state=state.Cached(message=str(number)))
    found = client.get_latest_cached_states(task_run.task_id, None, before)
    assert [cached.message for cached in found] == ["2", "1"], found
    assert client.get_latest_cached_states(task_run.task_id, None, pendulum.now("utc").add(minutes=1)) == []
    assert client.get_latest_cached_states(str(uuid.uuid4()), "no such key", before) == []


def call_heartbeats():
    run_id = new_run()
    client.update_flow_run_heartbeat(run_id)
    found = ask('query { flow_run_by_pk(id: "%s") { heartbeat } }' % run_id)["flow_run_by_pk"]
    assert found["heartbeat"], found
    client.update_flow_run_heartbeat(str(uuid.uuid4()))


def call_logs():
    run_id = new_run()
    task_run = client.get_flow_run_info(run_id).task_runs[0].id
    now = pendulum.now("utc")
    lines = [
        {"flow_run_id": run_id, "timestamp": now.add(seconds=n).isoformat(), "name": "prefect.x", "level": level,
         "message": "line {} \u2603".format(n), "task_run_id": task_run if n else None, "info": {"n": n}}
        for n, level in enumerate(["DEBUG", "INFO", "CRITICAL", "MINE"])
    ]  # fmt: skip
    client.write_run_logs(list(reversed(lines)))
    found = ask(
        'query { flow_run(where: {id: {_eq: "%s"}}) { logs(order_by: {timestamp: asc}) { message level name } } }'
        % run_id
    )["flow_run"][0]["logs"]
    assert [line["message"] for line in found] == [line["message"] for line in lines], found
    by_task = ask('query { task_run_by_pk(id: "%s") { logs { level } } }' % task_run)["task_run_by_pk"]["logs"]
    assert len(by_task) == 3
    assert (
        len(ask('query { log(where: {flow_run_id: {_eq: "%s"}, level: {_eq: "INFO"}}) { id } }' % run_id)["log"]) == 1
    )


def call_run_labels_and_context():
    flow_id = registered()
    run = do("create_flow_run", "id", flow_id=flow_id, labels=["z", "y"], context={"deep": {"er": None}})["id"]
    do("set_flow_run_labels", "success", flow_run_id=run, labels=["x"])
    found = ask('query { flow_run_by_pk(id: "%s") { labels context } }' % run)["flow_run_by_pk"]
    assert found == {"labels": ["x"], "context": {"deep": {"er": None}}}, found


def call_agent():
    if PREFECT_1:
        agent = client.register_agent(agent_type="LocalAgent", name="a", labels=["y", "x"])
        assert agent == client.register_agent(agent_type="LocalAgent", name="a", labels=["x", "y"])
        client.attach_headers({"X-PREFECT-AGENT-ID": agent})
        do(
            "get_runs_in_queue",
            "flow_run_ids",
            tenant_id=client.tenant_id,
            before=str(pendulum.now("utc")),
            labels=["x"],
        )
        (found,) = ask('query { agent(where: {id: {_eq: "%s"}}) { last_queried labels type core_version } }' % agent)[
            "agent"
        ]
        assert found["last_queried"] and found["type"] == "LocalAgent", found
        client._attached_headers.clear()
    assert ask("query { hello }")["hello"]


def call_cancel():
    run_id = new_run()
    text = "mutation($input: cancel_flow_run_input!) { cancel_flow_run(input: $input) { state } }"
    assert ask(text, input={"flow_run_id": run_id})["cancel_flow_run"]["state"] == "Cancelled"
    assert {t.state.__class__ for t in client.get_flow_run_info(run_id).task_runs} == {state.Cancelled}
    running = new_run()
    client.set_flow_run_state(running, state=state.Running())
    assert ask(text, input={"flow_run_id": running})["cancel_flow_run"]["state"] == "Cancelling"
    if PREFECT_1:
        assert client.cancel_flow_run(running)


def call_names():
    run_id = new_run()
    do("set_flow_run_name", "success", flow_run_id=run_id, name="another")
    task_run = client.get_flow_run_info(run_id).task_runs[0].id
    do("set_task_run_name", "success", task_run_id=task_run, name="step")
    found = ask('query { task_run_by_pk(id: "%s") { name flow_run { name } } }' % task_run)["task_run_by_pk"]
    assert found == {"name": "step", "flow_run": {"name": "another"}}, found
    if PREFECT_1:
        assert client.set_flow_run_name(run_id, "third") and client.set_task_run_name(task_run, "third")


def call_artifacts():
    from prefect.backend import artifacts

    run_id = new_run()
    task_run = client.get_flow_run_info(run_id).task_runs[0].id
    with prefect.context(task_run_id=task_run, running_with_backend=True):
        link = artifacts.create_link_artifact("https://example.com")
        artifacts.update_link_artifact(link, "https://example.org")
        text = artifacts.create_markdown_artifact("# done")
        artifacts.delete_artifact(text)
    found = ask('query { task_run_artifact(where: {task_run: {flow_run_id: {_eq: "%s"}}}) { id kind data } }' % run_id)
    assert found["task_run_artifact"] == [{"id": link, "kind": "link", "data": {"link": "https://example.org"}}], found
