"""The queries of Prefect's command line, with its nesting and its nulls, and the answers that it needs."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from tests.processes.server.test_registration import task
from tests.support.dialect import Client
from tests.support.server import ServerProcess

PARAMETER = {"name": "p", "slug": "p", "default": 1, "required": False, "type": "prefect.core.parameter.Parameter"}
#: A filter that is not set: the condition is sent with null.
ANY = "null"


@dataclass(frozen=True)
class World:
    """A project with two flows. One flow has two versions, and the newer version has two runs."""

    client: Client
    project: str
    flow: str
    other: str
    #: Id of the finished run, which has logs.
    done: str
    #: Id of the run that waits.
    waiting: str

    def ask(self, text: str) -> Any:
        """Return the rows of the query's single field. $NAME in the query stands for this object's attribute NAME."""
        names = {name: json.dumps(getattr(self, name)) for name in ("project", "flow", "other", "done", "waiting")}
        for name, literal in names.items():
            text = text.replace(f"${name}", literal)
        (rows,) = self.client.ask(text).values()
        return rows


@pytest.fixture(scope="module")
def world(shared_server: ServerProcess) -> World:
    client = Client(shared_server)
    mark = uuid.uuid4().hex
    project = client.do("create_project", name=f"project {mark}", description="of a test")["id"]
    document = {
        "tasks": [task("add-1", max_retries=2, retry_delay=60), task("take-1")],
        "parameters": [PARAMETER],
        "storage": {"type": "Local"},
        "environment": {"type": "LocalEnvironment", "labels": []},
    }
    for _ in range(2):
        flow_id = client.flow(project, name=f"b flow {mark}", **document)
    client.flow(project, name=f"a flow {mark}")
    done = client.create_run(flow_id, flow_run_name=f"done {mark}", parameters={"p": 7})
    waiting = client.create_run(flow_id, flow_run_name=f"waiting {mark}")
    for state in ("Submitted", "Running"):
        client.report(done, state)
    logs = [
        {"flow_run_id": done, "message": str(n), "timestamp": f"2020-01-01T00:00:0{n}", "info": {"n": n}}
        for n in (2, 1)
    ]
    client.do("write_run_logs", logs=logs)
    client.report(done, "Success")
    return World(client, f"project {mark}", f"b flow {mark}", f"a flow {mark}", done, waiting)


GET_FLOWS = """query {
    flow(where: { _and: { name: { _eq: NAME }, version: { _eq: VERSION }, project: { name: { _eq: $project } } } },
         order_by: { name: asc, version: desc }, distinct_on: DISTINCT, limit: LIMIT) {
        name
        version
        created
        id
        project { name }
    }
}"""


@pytest.mark.parametrize(
    ("name", "version", "distinct", "limit", "expected"),
    [
        (ANY, ANY, "name", "10", [("a", 1), ("b", 2)]),
        (ANY, ANY, "null", "10", [("a", 1), ("b", 2), ("b", 1)]),
        (ANY, ANY, "name", "1", [("a", 1)]),
        ("$flow", ANY, "null", "null", [("b", 2), ("b", 1)]),
        ("$flow", "1", "name", "10", [("b", 1)]),
        ("$flow", "3", "name", "10", []),
    ],
)
def test_get_flows(
    world: World, name: str, version: str, distinct: str, limit: str, expected: list[tuple[str, int]]
) -> None:
    text = GET_FLOWS.replace("NAME", name).replace("VERSION", version).replace("DISTINCT", distinct)
    rows = world.ask(text.replace("LIMIT", limit))
    assert [(row["name"][0], row["version"]) for row in rows] == expected
    assert all(row["project"] == {"name": world.project} and row["created"] for row in rows)


def test_get_projects(world: World) -> None:
    text = """query { project(where: {_and: {name: {_eq: $project}}}, order_by: {name: asc}) {
        name created description flows_aggregate(distinct_on: name) { aggregate { count } } } }"""
    (row,) = world.ask(text)
    assert row.pop("created")
    assert row == {
        "name": world.project,
        "description": "of a test",
        "flows_aggregate": {"aggregate": {"count": 2}},
    }
    assert world.project in [row["name"] for row in world.ask(text.replace("$project", ANY))]


def test_get_flow_runs(world: World) -> None:
    text = """query { flow_run(where: {flow: {_and: {name: {_eq: NAME}, project: {name: {_eq: $project}}}}},
        limit: 10, order_by: {created: desc}) { flow { name } id created state name duration start_time } }"""
    for name in (ANY, "$flow"):
        rows = world.ask(text.replace("NAME", name))
        assert [(row["id"], row["state"]) for row in rows] == [(world.waiting, "Scheduled"), (world.done, "Success")]
    assert rows[0]["duration"] is None and rows[0]["start_time"] is None and rows[0]["flow"] == {"name": world.flow}
    assert rows[1]["duration"] and rows[1]["start_time"]
    assert world.ask(text.replace("NAME", "$other")) == []


def test_get_flow_runs_that_have_started(world: World) -> None:
    text = """query { flow_run(where: {_and: {flow: {_and: {name: {_eq: null}, project: {name: {_eq: $project}}}},
        start_time: {_is_null: false}}}, limit: 10, order_by: {start_time: desc}) { id start_time } }"""
    assert [row["id"] for row in world.ask(text)] == [world.done]


def test_get_tasks(world: World) -> None:
    text = """query { task(where: {_and: {name: {_eq: NAME},
        flow: {name: {_eq: $flow}, version: {_eq: VERSION}, project: {name: {_eq: null}}}}},
        limit: 10, order_by: {created: desc}) { name created flow { name version } mapped type } }"""
    rows = world.ask(text.replace("NAME", ANY).replace("VERSION", ANY))
    assert sorted((row["name"], row["flow"]["version"]) for row in rows) == [
        ("add", 1),
        ("add", 2),
        ("take", 1),
        ("take", 2),
    ]
    (row,) = world.ask(text.replace("NAME", '"take"').replace("VERSION", "2"))
    assert row.pop("created")
    assert row == {
        "name": "take",
        "flow": {"name": world.flow, "version": 2},
        "mapped": False,
        "type": "prefect.tasks.core.function.FunctionTask",
    }


@pytest.mark.parametrize(("fields", "expected"), [("message level", ["1", "2"]), ("info", [{"n": 1}, {"n": 2}])])
def test_get_logs(world: World, fields: str, expected: list[Any]) -> None:
    text = """query { flow_run(where: {name: {_eq: null}, id: {_eq: $done}}, order_by: {start_time: desc}) {
        logs(order_by: {timestamp: asc}) { timestamp FIELDS } start_time } }"""
    (row,) = world.ask(text.replace("FIELDS", fields))
    assert row["start_time"]
    assert [line[fields.split()[0]] for line in row["logs"]] == expected


def test_describe_flows(world: World) -> None:
    text = """query { flow(where: {_and: {name: {_eq: $flow}, version: {_eq: null}, project: {name: {_eq: null}}}},
        order_by: {name: asc, version: desc}, distinct_on: name) { name version project { name } created description
        parameters archived storage environment } }"""
    (row,) = world.ask(text)
    assert (row["version"], row["archived"], row["description"]) == (2, False, None)
    assert row["parameters"] == [PARAMETER]
    assert row["storage"] == {"type": "Local"} and row["environment"]["type"] == "LocalEnvironment"


def test_describe_tasks(world: World) -> None:
    text = """query { flow(where: {_and: {name: {_eq: $flow}, version: {_eq: null}, project: {name: {_eq: null}}}},
        order_by: {name: asc, version: desc}, distinct_on: name) { tasks { name created slug description type
        max_retries retry_delay mapped } } }"""
    (row,) = world.ask(text)
    found = {item["slug"]: (item["max_retries"], item["retry_delay"]) for item in row["tasks"]}
    assert found == {"add-1": (2, "00:01:00"), "take-1": (0, None)}


def test_describe_flow_runs(world: World) -> None:
    text = """query { flow_run(where: {_and: {id: {_eq: $done}, flow: {name: {_eq: null}}}}) { name flow { name }
        created parameters auto_scheduled scheduled_start_time start_time end_time duration heartbeat
        serialized_state } }"""
    (row,) = world.ask(text)
    assert row["flow"] == {"name": world.flow} and row["parameters"] == {"p": 7} and row["auto_scheduled"] is False
    assert row["serialized_state"]["type"] == "Success"
    assert all(row[name] for name in ("created", "scheduled_start_time", "start_time", "end_time", "heartbeat"))


def test_watching_a_run(world: World) -> None:
    """The queries of `run flow --watch` and `--logs` in Prefect 0.x, and of `run --watch` in 1.x."""
    states = world.ask("query { flow_run_by_pk(id: $done) { states(order_by: {timestamp: asc}) { state timestamp } } }")
    assert [state["state"] for state in states["states"]] == ["Scheduled", "Submitted", "Running", "Success"]
    since = (
        "query { flow_run(where: {id: {_eq: $done}}) { logs(order_by: {timestamp: asc}, where: WHERE) { message } } }"
    )
    upto = '{timestamp: {_lte: "2020-01-01T00:00:02+00:00"}}'
    (row,) = world.ask(since.replace("WHERE", f"{{_and: [{upto}, {{}}]}}"))
    assert [line["message"] for line in row["logs"]] == ["1", "2"]
    (row,) = world.ask(since.replace("WHERE", f'{{_and: [{upto}, {{timestamp: {{_gt: "2020-01-01T00:00:01"}}}}]}}'))
    assert [line["message"] for line in row["logs"]] == ["2"]
    view = "id name flow_id serialized_state labels parameters context updated run_config"
    text = f"query {{ flow_run(where: {{id: {{_eq: $done}}}}) {{ {view} states {{ timestamp serialized_state }} }} }}"
    (row,) = world.ask(text)
    assert row.keys() == {*view.split(), "states"} and row["updated"] and len(row["states"]) == 4


def test_looking_for_the_flow_to_run(world: World) -> None:
    text = """query { flow(where: {name: {_eq: $flow}, archived: {_eq: false}, project: {name: {_eq: $project}}},
        order_by: {created: desc}) { id settings run_config serialized_flow name archived project { name } core_version
        storage flow_group { labels } } }"""
    (row,) = world.ask(text)
    assert (row["name"], row["archived"], row["settings"]) == (world.flow, False, {})
    assert row["flow_group"] == {"labels": None} and len(row["serialized_flow"]["tasks"]) == 2


def test_executing_a_run_in_the_command_itself(world: World) -> None:
    """`run --execute` asks when the run may start."""
    text = """query { flow_run(where: {id: {_eq: $waiting}}) {
        states(where: {state: {_eq: "Scheduled"}}) { start_time created } scheduled_start_time } }"""
    (row,) = world.ask(text)
    (state,) = row["states"]
    assert state["start_time"] == row["scheduled_start_time"] and state["created"]
    text = """query { task_run(where: {state_start_time: {_is_null: false}, flow_run_id: {_eq: $waiting},
        flow_run: {state: {_eq: "Running"}}}) { state_start_time } }"""
    assert world.ask(text) == []
