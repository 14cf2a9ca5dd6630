"""A flow run is a dict and an object at once, as the rows of the API were for subclasses of Prefect's agents."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from flowherd.attribute_dict import AttributeDict
from flowherd.flow_run import Flow, FlowRun, TaskRun, as_flow_run
from flowherd.states import RunState


@pytest.fixture
def flow_run() -> FlowRun:
    return FlowRun(
        id="11111111-2222-3333-4444-555555555555",
        name="brave-otter",
        version=3,
        state=RunState.SCHEDULED,
        serialized_state={"type": "Scheduled", "context": {"tags": ["a", {"b": 1}]}},
        flow=Flow(id="f", name="etl", version=2, storage={"type": "Local", "flows": {"etl": "/flows/etl"}}),
        parameters={"day": "2026-01-01", "deep": {"er": [1, {"x": 2}]}},
        run_config={"type": "LocalRun", "env": {"A": "1"}, "labels": ["x"]},
        scheduled_start_time="2026-01-01T00:00:00+00:00",
        labels=("x",),
        task_runs=[TaskRun(id="t", task_id="k", version=1, serialized_state={"type": "Retrying"})],
    )


def test_attributes_and_keys_are_the_same_at_every_depth(flow_run: FlowRun) -> None:
    assert flow_run.flow.storage.type == flow_run["flow"]["storage"]["type"] == "Local"
    assert flow_run.flow.storage.flows.etl == "/flows/etl"
    assert flow_run.serialized_state.context.tags[1].b == 1
    assert flow_run.task_runs[0].serialized_state.type == "Retrying"
    assert flow_run.parameters.deep["er"][1].x == 2


def test_it_is_a_mapping(flow_run: FlowRun) -> None:
    assert "flow" in flow_run and "project" not in flow_run
    assert flow_run.get("name") == "brave-otter" and flow_run.get("project", "none") == "none"
    assert flow_run.flow.get("core_version") is None
    assert {"id", "version", "state", "serialized_state", "parameters", "flow", "task_runs"} <= set(flow_run)
    assert dict(flow_run)["name"] == {**flow_run}["name"] == "brave-otter"
    assert len(flow_run) == len(list(flow_run.items()))


def test_what_it_does_not_have_is_an_attribute_error_that_names_what_it_has(flow_run: FlowRun) -> None:
    assert getattr(flow_run, "project", None) is None and not hasattr(flow_run.flow, "project")
    with pytest.raises(AttributeError, match="FlowRun has no 'project', only id, name"):
        _ = flow_run.project
    with pytest.raises(KeyError):
        flow_run["project"]


def test_it_can_be_changed_by_attribute_and_by_key(flow_run: FlowRun) -> None:
    flow_run.name = "renamed"
    flow_run["queue"] = {"name": "night"}
    flow_run.flow.storage["host"] = "h1"
    flow_run.run_config.env.B = "2"  # type: ignore[union-attr]
    flow_run.setdefault("extra", {}).setdefault("n", 1)
    flow_run.update(more={"deep": [{"er": 1}]})
    assert (flow_run["name"], flow_run.queue.name, flow_run.flow.storage.host) == ("renamed", "night", "h1")
    assert flow_run.run_config == {"type": "LocalRun", "env": {"A": "1", "B": "2"}, "labels": ["x"]}
    assert flow_run.extra.n == 1 and flow_run.more.deep[0].er == 1
    del flow_run.queue
    assert "queue" not in flow_run


def test_the_name_of_a_method_can_only_be_a_key() -> None:
    parameters = AttributeDict({"items": [1]})
    assert parameters["items"] == [1] and callable(parameters.items)
    with pytest.raises(AttributeError, match=r"set it as a key: \['items'\]"):
        parameters.items = [2]  # type: ignore[method-assign]


def test_to_dict_is_plain_all_the_way_down(flow_run: FlowRun) -> None:
    plain = flow_run.to_dict()
    assert plain == json.loads(json.dumps(flow_run))
    found: list[type] = []

    def look(value: Any) -> None:
        found.append(type(value))
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            look(inner)

    look(plain)
    assert set(found) == {dict, list, str, int, type(None)}
    plain["flow"]["name"] = "changed"
    assert flow_run.flow.name == "etl"


def test_copies_are_of_the_same_type_and_independent(flow_run: FlowRun) -> None:
    for other in (copy.deepcopy(flow_run), pickle.loads(pickle.dumps(flow_run))):
        assert type(other) is FlowRun and type(other.flow) is Flow and other == flow_run
        other.flow.storage.type = "S3"
    shallow = flow_run.copy()
    shallow.name = "other"
    assert type(shallow) is FlowRun
    assert (flow_run.name, flow_run.flow.storage.type) == ("brave-otter", "Local")


def test_values_nested_deeper_than_python_can_call_are_kept() -> None:
    value: Any = 1
    for _ in range(3_000):
        value = {"a": [value]}
    run = AttributeDict(parameters=value)
    inner = run.to_dict()["parameters"]
    for _ in range(3_000):
        inner = inner["a"][0]
    assert inner == 1


class TestARowThatASubclassHasRead:
    def test_becomes_a_flow_run_and_keeps_its_other_keys(self) -> None:
        row = AttributeDict(
            id="r",
            version=4,
            serialized_state={"type": "Scheduled"},
            flow={"id": "f", "storage": None, "project": {"name": "p"}},
            task_runs=[{"id": "t", "version": 1, "serialized_state": {"type": "Scheduled"}}],
            owner="ann",
        )
        run = as_flow_run(row)
        assert (run.id, run.name, run.version, run.state, run.owner) == ("r", "r", 4, RunState.SCHEDULED, "ann")
        assert (run.flow.storage, run.flow.project.name, run.parameters, run.labels) == ({}, "p", {}, ())
        assert type(run.task_runs[0]) is TaskRun and run.task_runs[0].task_id == ""

    def test_a_flow_run_is_returned_as_it_is(self, flow_run: FlowRun) -> None:
        assert as_flow_run(flow_run) is flow_run

    @pytest.mark.parametrize("row", [None, "r", {}, {"id": 5}, {"id": "r", "state": "Nowhere"}])
    def test_anything_else_is_refused(self, row: object) -> None:
        with pytest.raises(ValueError, match=r"not a flow run|Nowhere"):
            as_flow_run(row)
