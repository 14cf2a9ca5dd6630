"""Calls about projects and flows: registration, groups, archiving, creation of runs, the generic query language."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pendulum
import prefect
from client_helpers import PREFECT_1, PROJECT, ask, client, do, new_flow, new_run, refused, registered
from prefect import Parameter
from prefect.engine import state
from prefect.schedules import IntervalSchedule


def call_tenant():
    (tenant,) = ask("query { tenant { id slug name } }")["tenant"]
    assert tenant["id"] and tenant["slug"]
    if PREFECT_1:
        assert client.tenant_id == tenant["id"]
        assert prefect.backend.TenantView.from_current_tenant().slug == tenant["slug"]


def call_project():
    name = "project-{}".format(uuid.uuid4())
    made = client.create_project(name, "of a test")
    found = ask('query { project(where: {name: {_eq: "%s"}}) { id description tenant { id } } }' % name)["project"]
    assert [p["id"] for p in found] == [made], found
    assert found[0]["description"] == "of a test"
    if PREFECT_1:  # a project that exists is no failure
        assert client.create_project(name) == made
        assert client.delete_project(name)
        assert ask('query { project(where: {name: {_eq: "%s"}}) { id } }' % name)["project"] == []
    else:
        assert "niqueness" in refused(client.create_project, name)


def call_register():
    """Compressed or not, the server has the whole flow: parameters, tasks, edges."""
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


def call_idempotent_registration():
    flow = new_flow()
    first = registered(flow, idempotency_key="k")
    assert registered(flow, idempotency_key="k") == first
    assert registered(flow, idempotency_key="another") != first


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


def call_archive():
    flow = new_flow(schedule=IntervalSchedule(interval=timedelta(hours=1)))
    flow_id = registered(flow)
    waiting = new_run(flow_id)
    assert do("archive_flow", "success", flow_id=flow_id)["success"]
    found = ask('query { flow_run(where: {flow_id: {_eq: "%s"}}) { id state } }' % flow_id)["flow_run"]
    assert found == [{"id": waiting, "state": "Cancelled"}], found


def call_delete():
    flow_id = registered()
    first, second = new_run(flow_id), new_run(flow_id)
    assert do("delete_flow_run", "success", flow_run_id=first)["success"]
    assert ask('query { flow_run_by_pk(id: "%s") { id } }' % first)["flow_run_by_pk"] is None
    assert do("delete_flow", "success", flow_id=flow_id)["success"]
    assert ask('query { flow_run_by_pk(id: "%s") { id } }' % second)["flow_run_by_pk"] is None
    assert ask('query { task(where: {flow_id: {_eq: "%s"}}) { id } }' % flow_id)["task"] == []


def call_filters():
    """Use some of the generic query language, as user code does."""
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


def call_views():
    """Use the classes with which user code of 1.x looks at flows and runs."""
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
