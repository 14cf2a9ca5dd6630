"""Creating, renaming, labelling and deleting flow runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLList, GraphQLNonNull
from graphql.type import GraphQLBoolean, GraphQLString
from sqlalchemy import delete, update

from flowherd.states import CLAIMABLE
from flowherd_server.call import Call
from flowherd_server.errors import Refused, not_found
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT, TIME_INPUT, UUID_INPUT
from flowherd_server.mutations.flow_document import optional_mapping
from flowherd_server.offers import DueRun
from flowherd_server.runs.create_flow_runs import FlowRunRequest, create_flow_run
from flowherd_server.runs.labels import check_labels, normal_labels
from flowherd_server.store.plain import StoredRow, find_row, plain
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import FLOW, FLOW_RUN

_LIVE = "SELECT id FROM flow WHERE version_group_id = ? AND NOT archived ORDER BY version DESC LIMIT 1"
#: What a run does not need of its flow.
_LARGE = ("serialized_flow",)


def _create_flow_run(call: Call, given: Input) -> Mapping[str, Any]:
    run_config = optional_mapping("run_config", given.get("run_config"))
    check_labels("run_config.labels", (run_config or {}).get("labels"))
    start_us = given.get("scheduled_start_time")
    wanted = FlowRunRequest(
        start_us=call.now if start_us is None else start_us,
        parameters=optional_mapping("parameters", given.get("parameters")),
        context=optional_mapping("context", given.get("context")),
        labels=given.get("labels"),
        run_config=run_config,
        name=given.get("flow_run_name"),
        idempotency_key=given.get("idempotency_key"),
        repeats=_repeated(call, given.get("repeats")),
    )
    return {"id": create_flow_run(call, _flow(call, given), wanted)}


def _repeated(call: Call, run_id: str | None) -> str | None:
    """Return the id of the run that a new one repeats. Raises Refused if there is none."""
    return None if run_id is None else str(row_by_id(call.connection, FLOW_RUN, run_id)["id"])


def _flow(call: Call, given: Input) -> StoredRow:
    """Return the flow with the given id, or the live version of the given version group."""
    flow_id, version_group_id = given.get("flow_id"), given.get("version_group_id")
    if (flow_id is None) == (version_group_id is None):
        raise Refused("exactly one of flow_id and version_group_id must be given")
    if flow_id is None:
        flow = live_flow(call, str(version_group_id))
    else:
        flow = find_row(call.connection, FLOW, flow_id, _LARGE)
    if flow is None:
        raise not_found("flow", flow_id or f"of version group {version_group_id}")
    if flow["archived"]:
        raise Refused(f"flow {flow_id} is archived; register it again, or use its newest version")
    return flow


def live_flow(call: Call, version_group_id: str) -> StoredRow | None:
    """Return the flow of this version group that is registered, without its document; None if there is none."""
    live = plain(call.connection).execute(_LIVE, (version_group_id,)).fetchone()
    return None if live is None else find_row(call.connection, FLOW, live[0], _LARGE)


def delete_run(call: Call, run: StoredRow) -> None:
    """Delete a run with its log and its history, and wake its agent so that it ends the run's processes."""
    call.connection.execute(delete(FLOW_RUN).where(FLOW_RUN.c.id == run["id"]))
    call.effects.taken.add(run["id"])
    call.effects.runs.add(run["id"])
    if run["agent_id"] is not None:
        call.effects.agents.add(run["agent_id"])


def _delete_flow_run(call: Call, given: Input) -> Mapping[str, Any]:
    delete_run(call, _run(call, given))
    return {"success": True}


def _set_flow_run_name(call: Call, given: Input) -> Mapping[str, Any]:
    if not given["name"].strip():
        raise Refused("a flow run's name cannot be empty")
    _change(call, _run(call, given), name=given["name"])
    return {"success": True}


def _set_flow_run_labels(call: Call, given: Input) -> Mapping[str, Any]:
    """Set the labels, which decide which agents may claim the run."""
    run = _run(call, given)
    labels = normal_labels(given["labels"])
    _change(call, run, labels=labels)
    if run["state"] in CLAIMABLE and run["state_start_time"] is not None:
        call.effects.due.append((run["state_start_time"], DueRun(run["id"], run["version"], labels)))
    return {"success": True}


def _run(call: Call, given: Input) -> StoredRow:
    return row_by_id(call.connection, FLOW_RUN, given["flow_run_id"])


def _change(call: Call, run: StoredRow, **columns: Any) -> None:
    changed = {**columns, "updated": call.now}
    call.effects.runs.add(run["id"])
    call.connection.execute(update(FLOW_RUN).where(FLOW_RUN.c.id == run["id"]), changed)


OPERATIONS = (
    Operation(
        name="create_flow_run",
        arguments={
            "flow_id": UUID_INPUT,
            "version_group_id": GraphQLString,
            "parameters": JSON_INPUT,
            "context": JSON_INPUT,
            "scheduled_start_time": TIME_INPUT,
            "idempotency_key": GraphQLString,
            "flow_run_name": GraphQLString,
            "labels": GraphQLList(GraphQLNonNull(GraphQLString)),
            "run_config": JSON_INPUT,
            "repeats": UUID_INPUT,
        },
        answer={"id": UUID_INPUT},
        handle=_create_flow_run,
    ),
    Operation(
        name="delete_flow_run",
        arguments={"flow_run_id": GraphQLNonNull(UUID_INPUT)},
        answer={"success": GraphQLBoolean},
        handle=_delete_flow_run,
    ),
    Operation(
        name="set_flow_run_name",
        arguments={"flow_run_id": GraphQLNonNull(UUID_INPUT), "name": GraphQLNonNull(GraphQLString)},
        answer={"success": GraphQLBoolean},
        handle=_set_flow_run_name,
    ),
    Operation(
        name="set_flow_run_labels",
        arguments={
            "flow_run_id": GraphQLNonNull(UUID_INPUT),
            "labels": GraphQLNonNull(GraphQLList(GraphQLNonNull(GraphQLString))),
        },
        answer={"success": GraphQLBoolean},
        handle=_set_flow_run_labels,
    ),
)
