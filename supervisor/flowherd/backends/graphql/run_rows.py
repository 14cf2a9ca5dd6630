"""Read flow runs and stored states from rows of the API's answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from flowherd.backends import json_values
from flowherd.parameter_names import parameter_names
from flowherd.states import RunState
from flowherd.values import Flow, FlowRun, StoredState, TaskRun, checked_id


def flow_run(row: Mapping[str, Any]) -> FlowRun:
    """Return a flow run with its flow and task runs. Raises one of DECODING_ERRORS."""
    flow = json_values.mapping(row["flow"])
    run_id = checked_id(row["id"])
    return FlowRun(
        id=run_id,
        name=json_values.text_or_none(row.get("name")) or run_id,
        version=json_values.integer(row["version"]),
        state=RunState(row["state"]),
        serialized_state=json_values.mapping(row["serialized_state"] or {}),
        parameters=json_values.mapping(row.get("parameters") or {}),
        run_config=json_values.mapping_or_none(row.get("run_config")),
        scheduled_start_time=scheduled if isinstance(scheduled := row.get("scheduled_start_time"), str) else None,
        labels=_labels(row, flow),
        flow=Flow(
            id=json_values.text(flow["id"]),
            name=json_values.text(flow["name"]),
            version=json_values.integer_or_none(flow.get("version")),
            storage=json_values.mapping(flow.get("storage") or {}),
            run_config=json_values.mapping_or_none(flow.get("run_config")),
            environment=json_values.mapping_or_none(flow.get("environment")),
            core_version=json_values.text_or_none(flow.get("core_version")),
            parameter_names=parameter_names(flow.get("storage"), flow.get("parameters")),
        ),
        task_runs=[_task_run(task_row) for task_row in json_values.mappings(row.get("task_runs"))],
    )


def stored_state(row: Mapping[str, Any]) -> StoredState:
    """Return the state that the server holds for a run. Raises one of DECODING_ERRORS."""
    state = json_values.mapping(row["serialized_state"] or {})
    context = state.get("context")
    ours = context.get("flowherd") if isinstance(context, Mapping) else None
    claim = ours.get("claim") if isinstance(ours, Mapping) else None
    message = state.get("message")
    return StoredState(
        flow_run_id=json_values.text(row["id"]),
        version=json_values.integer(row["version"]),
        state=RunState(row["state"]),
        message=message if isinstance(message, str) else None,
        claim=claim if isinstance(claim, str) else None,
    )


def stored_states(answer: Mapping[str, Any], wanted: Collection[str]) -> dict[str, StoredState]:
    """Return the states of the runs of an answer that are `wanted`, by their ids. Raises one of DECODING_ERRORS."""
    stored = (stored_state(row) for row in json_values.mappings(answer["flow_run"]))
    return {state.flow_run_id: state for state in stored if state.flow_run_id in wanted}


def _labels(row: Mapping[str, Any], flow: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the run's own labels; on servers without those, the first that its run config or flow has."""
    for holder in (row, row.get("run_config"), flow.get("run_config"), flow.get("environment")):
        labels = holder.get("labels") if isinstance(holder, Mapping) else None
        if labels is not None:
            return tuple(json_values.text(label) for label in json_values.sequence(labels))
    return ()


def _task_run(row: Mapping[str, Any]) -> TaskRun:
    return TaskRun(
        id=json_values.text(row["id"]),
        task_id=json_values.text(row["task_id"]),
        version=json_values.integer(row["version"]),
        serialized_state=json_values.mapping(row["serialized_state"] or {}),
    )
