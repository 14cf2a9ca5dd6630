"""Calls of the real client, each with what must come back. Run by a peer's interpreter: `python client_calls.py FILE`.

FILE gets, by the name of each function here whose name begins with "call_", nothing or the text of what went wrong.
A call that one of the lines does not have is in the list of the other alone.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
import uuid
from datetime import timedelta

import pendulum
import prefect
from prefect import Flow, Parameter, task
from prefect.engine import state
from prefect.schedules import IntervalSchedule

NEW = prefect.__version__.startswith("1.")
PROJECT = "peers"

if NEW:
    from prefect.exceptions import ClientError
    from prefect.storage import Local
else:
    from prefect.environments.storage import Local
    from prefect.utilities.exceptions import ClientError

client = prefect.Client()


def ask(text, **variables):
    return client.graphql(text, variables=variables or None)["data"]


def do(operation, selection, **given):
    text = "mutation($input: {0}_input!) {{ {0}(input: $input) {{ {1} }} }}".format(operation, selection)
    return ask(text, input=given)[operation]


def refused(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except ClientError as error:
        return str(error)
    raise AssertionError("{} was not refused".format(call))


def new_flow(name=None, tasks=2, **options):
    """A chain of tasks; many make a bundle, for the clients take up to a minute to serialize a long chain."""

    @task(tags=["even"], max_retries=3, retry_delay=timedelta(seconds=7))
    def step(x):
        return x

    with Flow(name or "flow-{}".format(uuid.uuid4()), **options) as flow:
        value = first = Parameter("p", default=1)
        for _ in range(tasks):
            value = step(value if tasks < 100 else first)
    flow.storage = Local(directory="flows")
    return flow


def registered(flow=None, **options):
    return (flow or new_flow()).register(project_name=PROJECT, no_url=True, **options)


def new_run(flow_id=None, **options):
    return client.create_flow_run(flow_id=flow_id or registered(), **options)


def call_tenant():
    (tenant,) = ask("query { tenant { id slug name } }")["tenant"]
    assert tenant["id"] and tenant["slug"]
    if NEW:
        assert client.tenant_id == tenant["id"]
        assert prefect.backend.TenantView.from_current_tenant().slug == tenant["slug"]


def call_project():
    name = "project-{}".format(uuid.uuid4())
    made = client.create_project(name, "of a test")
    found = ask('query { project(where: {name: {_eq: "%s"}}) { id description tenant { id } } }' % name)["project"]
    assert [p["id"] for p in found] == [made], found
    assert found[0]["description"] == "of a test"
    if NEW:  # a project that is there already is no failure
        assert client.create_project(name) == made
        assert client.delete_project(name)
        assert ask('query { project(where: {name: {_eq: "%s"}}) { id } }' % name)["project"] == []
    else:
        assert "niqueness" in refused(client.create_project, name)


def call_register():
    """Compressed or not, all of the flow is there: parameters, tasks, edges."""
    for compressed in (True, False):
        flow = new_flow()
        flow.result = flow.storage.result
        flow_id = client.register(flow, project_name=PROJECT, no_url=True, compressed=compressed)
        found = ask(
            'query { flow_by_pk(id: "%s") { name version archived parameters core_version storage serialized_flow '
            "flow_group { id name } version_group_id tasks(order_by: {slug: asc}) { slug max_retries tags mapped } } }"
            % flow_id
        )["flow_by_pk"]
        assert found["name"] == flow.name and found["version"] == 1 and not found["archived"], found
        assert [p["name"] for p in found["parameters"]] == ["p"], found["parameters"]
        assert found["core_version"] == prefect.__version__
        assert found["flow_group"]["name"] == found["version_group_id"]
        assert [t["slug"] for t in found["tasks"]] == sorted(flow.slugs.values()), found["tasks"]
        stored = found["serialized_flow"]
        assert len(stored["tasks"]) == 3 and len(stored["edges"]) == 2, stored
        again = prefect.serialization.flow.FlowSchema().load(dict(stored))
        assert len(again.tasks) == 3


def call_register_again():
    """A new version archives the one before."""
    flow = new_flow()
    first, second = registered(flow), registered(flow)
    found = ask(
        'query { flow(where: {name: {_eq: "%s"}}, order_by: {version: asc}) { id version archived flow_group_id } }'
        % flow.name
    )["flow"]
    assert [(f["id"], f["version"], f["archived"]) for f in found] == [(first, 1, True), (second, 2, False)], found
    assert len({f["flow_group_id"] for f in found}) == 1
    assert "rchived" in refused(client.create_flow_run, flow_id=first)
    group = ask('query { flow_by_pk(id: "%s") { version_group_id } }' % second)["flow_by_pk"]["version_group_id"]
    run = client.create_flow_run(version_group_id=group)
    assert ask('query { flow_run_by_pk(id: "%s") { flow_id } }' % run)["flow_run_by_pk"]["flow_id"] == second


def call_register_many_tasks():
    flow = new_flow(tasks=1100)
    flow_id = registered(flow)
    found = ask('query { flow_by_pk(id: "%s") { tasks_aggregate { aggregate { count } } serialized_flow } }' % flow_id)[
        "flow_by_pk"
    ]
    assert found["tasks_aggregate"]["aggregate"]["count"] == 1101
    assert len(found["serialized_flow"]["edges"]) == 1100
    run = client.get_flow_run_info(client.create_flow_run(flow_id=flow_id))
    assert len(run.task_runs) == 1101


def call_create_flow_run():
    flow_id = registered()
    when = pendulum.now("utc").add(hours=1)
    given = {"parameters": {"p": 5}, "context": {"c": [1]}, "scheduled_start_time": when}
    run_id = client.create_flow_run(flow_id=flow_id, run_name="named", idempotency_key="k", **given)
    assert client.create_flow_run(flow_id=flow_id, idempotency_key="k") == run_id
    info = client.get_flow_run_info(run_id)
    assert info.parameters == {"p": 5} and info.context == {"c": [1]} and info.name == "named", info
    assert info.scheduled_start_time == when, info.scheduled_start_time
    assert isinstance(info.state, state.Scheduled) and info.state.start_time == when
    assert info.version == 1 and info.flow_id == flow_id
    assert {t.state.message for t in info.task_runs} == {"Task run created"}, info.task_runs


def call_create_flow_run_of_nothing():
    refused(client.create_flow_run, flow_id=str(uuid.uuid4()))
    flow = new_flow()
    with flow:
        Parameter("must")()
    refused(client.create_flow_run, flow_id=registered(flow))


def call_flow_run_states():
    """Every kind of state goes to the server and comes back as it was."""
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
    """Running with a version that is not the stored one is the old line's error and the new one's signal for that."""
    run_id = new_run()
    client.set_flow_run_state(run_id, version=1, state=state.Submitted(state=state.Scheduled()))
    try:
        client.set_flow_run_state(run_id, version=1, state=state.Running())
    except BaseException as error:  # the signal is no Exception
        assert type(error).__name__.startswith("VersionLock"), repr(error)
    else:
        raise AssertionError("it was taken")


def call_task_run_states():
    """A task run and its mapped children, through the states that real runs were seen to send."""
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


def call_flow_group():
    flow_id = registered()
    group = ask('query { flow_by_pk(id: "%s") { flow_group_id } }' % flow_id)["flow_by_pk"]["flow_group_id"]
    do("set_flow_group_labels", "success", flow_group_id=group, labels=["b", "a"])
    do("set_flow_group_default_parameters", "success", flow_group_id=group, parameters={"p": 9})
    do("set_flow_group_run_config", "success", flow_group_id=group, run_config={"type": "LocalRun", "env": {"E": "1"}})
    run_id = client.create_flow_run(flow_id=flow_id)
    run = ask('query { flow_run_by_pk(id: "%s") { labels parameters run_config } }' % run_id)["flow_run_by_pk"]
    assert run["labels"] == ["a", "b"] and run["parameters"] == {"p": 9}, run
    assert run["run_config"]["env"] == {"E": "1"}, run
    clocks = [{"type": "CronClock", "cron": "0 0 1 1 *"}]
    do("set_flow_group_schedule", "success", flow_group_id=group, cron_clocks=[{"cron": clocks[0]["cron"]}])
    assert do("set_schedule_active", "success", flow_id=flow_id)["success"]
    count = (
        'query { flow_run_aggregate(where: {flow_id: {_eq: "%s"}, auto_scheduled: {_eq: true}}) '
        "{ aggregate { count } } }"
    )
    assert ask(count % flow_id)["flow_run_aggregate"]["aggregate"]["count"] == 10
    do("set_schedule_inactive", "success", flow_id=flow_id)
    assert ask(count % flow_id)["flow_run_aggregate"]["aggregate"]["count"] == 0
    do("delete_flow_group_schedule", "success", flow_group_id=group)
    do("set_flow_group_labels", "success", flow_group_id=group, labels=None)
    do("disable_flow_heartbeat", "success", flow_id=flow_id)
    settings = ask('query { flow_by_pk(id: "%s") { settings } }' % flow_id)["flow_by_pk"]["settings"]
    assert settings["heartbeat_enabled"] is False, settings
    for operation in ("enable_flow_heartbeat", "disable_flow_lazarus_process", "enable_flow_lazarus_process"):
        do(operation, "success", flow_id=flow_id)


def call_run_labels_and_context():
    flow_id = registered()
    run = do("create_flow_run", "id", flow_id=flow_id, labels=["z", "y"], context={"deep": {"er": None}})["id"]
    do("set_flow_run_labels", "success", flow_run_id=run, labels=["x"])
    found = ask('query { flow_run_by_pk(id: "%s") { labels context } }' % run)["flow_run_by_pk"]
    assert found == {"labels": ["x"], "context": {"deep": {"er": None}}}, found


def call_delete():
    flow_id = registered()
    first, second = new_run(flow_id), new_run(flow_id)
    assert do("delete_flow_run", "success", flow_run_id=first)["success"]
    assert ask('query { flow_run_by_pk(id: "%s") { id } }' % first)["flow_run_by_pk"] is None
    assert do("delete_flow", "success", flow_id=flow_id)["success"]
    assert ask('query { flow_run_by_pk(id: "%s") { id } }' % second)["flow_run_by_pk"] is None
    assert ask('query { task(where: {flow_id: {_eq: "%s"}}) { id } }' % flow_id)["task"] == []


def call_archive():
    flow = new_flow(schedule=IntervalSchedule(interval=timedelta(hours=1)))
    flow_id = registered(flow)
    waiting = new_run(flow_id)
    assert do("archive_flow", "success", flow_id=flow_id)["success"]
    found = ask('query { flow_run(where: {flow_id: {_eq: "%s"}}) { id state } }' % flow_id)["flow_run"]
    assert found == [{"id": waiting, "state": "Cancelled"}], found


def call_filters():
    """Some of the generic query language, as user code sends it."""
    flow = new_flow()
    flow_id = registered(flow)
    runs = [new_run(flow_id, run_name="run {}".format(n)) for n in range(4)]
    client.set_flow_run_state(runs[0], state=state.Cancelled("gone"))
    text = """query($name: String, $states: [String!]) {
      flow_run(
        where: {_and: [{flow: {name: {_eq: $name}}}, {_or: [{state: {_in: $states}}, {name: {_ilike: "RUN 3"}}]}],
                _not: {name: {_like: "%1"}}, created: {_is_null: false}, flow: {project: {name: {_eq: "peers"}}}}
        order_by: [{state: asc}, {name: desc}], limit: 3
      ) { name state flow { name flow_runs_aggregate(where: {state: {_neq: "Cancelled"}}) { aggregate { count } } }
          task_runs(where: {task: {slug: {_like: "step%"}}}, order_by: {task: {slug: asc}}) { task { slug } } }
    }"""
    found = ask(text, name=flow.name, states=["Cancelled", "Scheduled"])["flow_run"]
    assert [(r["name"], r["state"]) for r in found] == [
        ("run 0", "Cancelled"), ("run 3", "Scheduled"), ("run 2", "Scheduled")
    ], found  # fmt: skip
    assert found[0]["flow"]["flow_runs_aggregate"]["aggregate"]["count"] == 3
    assert len(found[0]["task_runs"]) == 2


def call_agent():
    if NEW:
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
    if NEW:
        assert client.cancel_flow_run(running)


def call_names():
    run_id = new_run()
    do("set_flow_run_name", "success", flow_run_id=run_id, name="another")
    task_run = client.get_flow_run_info(run_id).task_runs[0].id
    do("set_task_run_name", "success", task_run_id=task_run, name="step")
    found = ask('query { task_run_by_pk(id: "%s") { name flow_run { name } } }' % task_run)["task_run_by_pk"]
    assert found == {"name": "step", "flow_run": {"name": "another"}}, found
    if NEW:
        assert client.set_flow_run_name(run_id, "third") and client.set_task_run_name(task_run, "third")


def call_views():
    """The classes with which user code of the new line looks at flows and runs."""
    from prefect.backend import FlowRunView, FlowView, TaskRunView

    flow = new_flow()
    flow_id = registered(flow)
    view = FlowView.from_id(flow_id)
    assert view.name == flow.name and view.project_name == PROJECT and not view.archived, view
    group = ask('query { flow_by_pk(id: "%s") { flow_group_id } }' % flow_id)["flow_by_pk"]["flow_group_id"]
    assert FlowView.from_flow_group_id(group).flow_id == flow_id == FlowView.from_flow_name(flow.name).flow_id
    run_id = new_run(flow_id, labels=["l"])
    run = FlowRunView.from_flow_run_id(run_id, load_static_tasks=True)
    assert run.labels == ["l"] and run.state.is_scheduled() and len(run.get_all_task_runs()) == 3, run
    assert len(run.get_task_run_ids()) == 3
    (slug,) = [s for s in flow.slugs.values() if s.startswith("step") and s.endswith("1")]
    one = TaskRunView.from_task_slug(slug, run_id)
    assert TaskRunView.from_task_run_id(one.task_run_id) == one
    assert run.get_logs() == []
    assert run.get_latest().state.is_scheduled()


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


def call_idempotent_registration():
    flow = new_flow()
    first = registered(flow, idempotency_key="k")
    assert registered(flow, idempotency_key="k") == first
    assert registered(flow, idempotency_key="another") != first


def cloud_secrets():
    """What was Cloud's alone: with the backend "cloud" the clients ask for it, and it is there."""
    client.set_secret("PEERS_SET", {"a": [1]})
    with prefect.context(secrets={}):
        assert prefect.client.Secret("PEERS_SET").get() == {"a": [1]}
        try:
            prefect.client.Secret("PEERS_NOT_SET").get()
        except (KeyError, ValueError):
            pass
        else:
            raise AssertionError("a secret that was never set has a value")


def cloud_tag_limits():
    tag = "tag-{}".format(uuid.uuid4())
    assert client.get_task_tag_limit(tag) is None
    client.update_task_tag_limit(tag, 3)
    client.update_task_tag_limit(tag, 2)
    assert client.get_task_tag_limit(tag) == 2
    (found,) = ask('query { task_tag_limit(where: {tag: {_eq: "%s"}}) { id } }' % tag)["task_tag_limit"]
    client.delete_task_tag_limit(found["id"])
    assert client.get_task_tag_limit(tag) is None


def cloud_key_value():
    from prefect.backend import delete_key, get_key_value, list_keys, set_key_value

    key = "key-{}".format(uuid.uuid4())
    made = set_key_value(key, {"a": 1})
    assert set_key_value(key, [2]) == made
    assert get_key_value(key) == [2] and key in list_keys()
    assert delete_key(key)
    try:
        get_key_value(key)
    except ValueError:
        return
    raise AssertionError("a key that was deleted has a value")


def cloud_registration():
    run = new_run()
    assert client.get_flow_run_info(run).state.is_scheduled()


_OF_THE_NEW = {"call_views", "call_artifacts", "call_idempotent_registration", "cloud_key_value"}


def main():
    kind = "cloud_" if prefect.config.backend == "cloud" else "call_"
    told = {}
    for name, call in list(globals().items()):
        if name.startswith(kind) and (NEW or name not in _OF_THE_NEW):
            began = time.monotonic()
            try:
                call()
                told[name] = None
            except Exception:
                told[name] = traceback.format_exc()
            print("{:6.2f} s {}".format(time.monotonic() - began, name))
    with open(sys.argv[1], "w") as file:
        json.dump(told, file)


if __name__ == "__main__":
    main()
