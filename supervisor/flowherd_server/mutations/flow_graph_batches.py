"""register_tasks and register_edges, by which Prefect 1.x sends the rest of a flow in batches of some hundred.

They are added to the stored document too, so that a reader finds the whole flow in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphql import GraphQLNonNull
from graphql.type import GraphQLBoolean
from sqlalchemy import update

from flowherd_server.call import Call
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT, UUID_INPUT
from flowherd_server.mutations.flow_document import read_edges, read_tasks
from flowherd_server.mutations.flow_graph import Document, add_edges, add_tasks
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import FLOW

Parts = Sequence[Document]


def _register(
    parts: str, read: Callable[[str, Any], Parts], add: Callable[[Call, str, Parts], list[Document]]
) -> Operation:
    """Return the operation that adds tasks or edges (`parts`) to a flow."""
    argument = f"serialized_{parts}"

    def prepare(given: Input) -> tuple[str, Parts]:
        value = given[argument]
        return given["flow_id"], read(argument, [value] if isinstance(value, dict) else value)

    def register(call: Call, prepared: tuple[str, Parts]) -> Mapping[str, Any]:
        flow = row_by_id(call.connection, FLOW, prepared[0])
        new = add(call, flow["id"], prepared[1])
        if new:
            whole = flow["serialized_flow"]
            grown = {**whole, parts: [*(whole.get(parts) or ()), *new]}
            changed = {"serialized_flow": grown, "updated": call.now}
            call.connection.execute(update(FLOW).where(FLOW.c.id == flow["id"]), changed)
        return {"success": True}

    return Operation(
        name=f"register_{parts}",
        arguments={"flow_id": GraphQLNonNull(UUID_INPUT), argument: GraphQLNonNull(JSON_INPUT)},
        answer={"success": GraphQLBoolean},
        handle=register,
        prepare=prepare,
    )


OPERATIONS = (_register("tasks", read_tasks, add_tasks), _register("edges", read_edges, add_edges))
