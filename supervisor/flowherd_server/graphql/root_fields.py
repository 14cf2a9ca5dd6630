"""Fields of the query root that are not tables: what else the dialect's clients ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLArgument, GraphQLField, GraphQLList, GraphQLNonNull, GraphQLObjectType
from graphql.type import GraphQLInt, GraphQLString

from flowherd_server.graphql.scalars import JSON_INPUT, UUID_INPUT
from flowherd_server.store.keyed_rows import secret_names, secret_value
from flowherd_server.store.row_lookup import row_by_id, tenant_id_of, tenant_row
from flowherd_server.store.tables import TASK_RUN


def _auth_info(_root: Any, info: Any) -> Mapping[str, Any]:
    # There is only one token, and everyone who has it may be an agent.
    return {"api_token_scope": "RUNNER", "tenant_id": tenant_id_of(info.context.connection, info.context.caller)}


def _user(_root: Any, info: Any) -> list[Mapping[str, Any]]:
    # There are no users; every client is a member of the tenant that its request is for.
    tenant = dict(tenant_row(info.context.connection, info.context.caller))
    return [{"default_membership": {"tenant_id": tenant["id"], "tenant": tenant}}]


def _secret_value(_root: Any, info: Any, name: str) -> Any:
    return secret_value(info.context.connection, info.context.caller, name)


def _secret_names(_root: Any, info: Any) -> list[str]:
    return secret_names(info.context.connection, info.context.caller)


def _task_run_info(_root: Any, info: Any, task_run_id: str) -> Mapping[str, Any]:
    return dict(row_by_id(info.context.connection, TASK_RUN, task_run_id))


def _agent_order(_root: Any, info: Any, id: str) -> Mapping[str, Any]:
    """Return what has come of an order of `ask_agent`: null before an answer, empty if it was carried out."""
    return {"outcome": info.context.core.live.orders.outcome(id, 0.0)}


_AUTH_INFO = GraphQLObjectType(
    "auth_info", {"api_token_scope": GraphQLField(GraphQLString), "tenant_id": GraphQLField(UUID_INPUT)}
)
_TASK_RUN_INFO = GraphQLObjectType(
    "task_run_info",
    {
        "id": GraphQLField(UUID_INPUT),
        "version": GraphQLField(GraphQLInt),
        "state": GraphQLField(GraphQLString),
        "serialized_state": GraphQLField(JSON_INPUT),
    },
)
_MEMBER_TENANT = GraphQLObjectType(
    "membership_tenant",
    {"id": GraphQLField(UUID_INPUT), "slug": GraphQLField(GraphQLString), "name": GraphQLField(GraphQLString)},
)
_MEMBERSHIP = GraphQLObjectType(
    "membership", {"tenant_id": GraphQLField(UUID_INPUT), "tenant": GraphQLField(_MEMBER_TENANT)}
)
_USER = GraphQLObjectType("user", {"default_membership": GraphQLField(_MEMBERSHIP)})
_ORDER = GraphQLObjectType("agent_order", {"outcome": GraphQLField(GraphQLString)})
_ID = GraphQLArgument(GraphQLNonNull(UUID_INPUT))

ROOT_FIELDS: Mapping[str, GraphQLField] = {
    "hello": GraphQLField(GraphQLString, resolve=lambda _root, _info: "hello"),
    "auth_info": GraphQLField(_AUTH_INFO, resolve=_auth_info),
    # A list, as if it were a table: Prefect 0.13 with the backend "cloud" takes the first item.
    "user": GraphQLField(GraphQLList(_USER), resolve=_user),
    "secret_value": GraphQLField(
        JSON_INPUT, {"name": GraphQLArgument(GraphQLNonNull(GraphQLString))}, resolve=_secret_value
    ),
    "secret_names": GraphQLField(GraphQLList(GraphQLNonNull(GraphQLString)), resolve=_secret_names),
    "agent_order": GraphQLField(_ORDER, {"id": GraphQLArgument(GraphQLNonNull(GraphQLString))}, _agent_order),
    # Prefect's engine reads this after a version lock, and goes on from it.
    "get_task_run_info": GraphQLField(_TASK_RUN_INFO, {"task_run_id": _ID}, _task_run_info),
}
