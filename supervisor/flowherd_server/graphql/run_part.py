"""The part of the schema for a client that has the token of one flow run: tables, relationships and further fields.

Each root field returns only rows that belong to the run, and no relationship in it leads from these to rows of other
runs. So nothing else can be read, nor guessed by a condition or an order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLField

from flowherd_server.graphql.root_fields import ROOT_FIELDS
from flowherd_server.graphql.schema import Part

RUN_PART = Part(
    tables={
        "tenant": (),
        "project": ("tenant",),
        "flow_group": (),
        "flow": ("project", "flow_group", "tasks", "edges"),
        "task": ("flow", "upstream_edges", "downstream_edges"),
        "edge": ("flow", "upstream_task", "downstream_task"),
        "flow_run": ("flow", "task_runs", "states", "attempts", "logs", "texts_so_far"),
        "flow_run_attempt": ("flow_run",),
        "flow_run_state": ("flow_run",),
        "task_run": ("flow_run", "task", "states", "logs", "artifacts"),
        "task_run_state": ("task_run",),
        "task_run_artifact": ("task_run",),
        "log": ("flow_run", "task_run"),
        "text_so_far": ("flow_run",),
    },
    narrowed=lambda table, context: _condition(table, context),
)


def _condition(table: str, context: Any) -> Mapping[str, Any]:
    scope = context.scope
    if table in ("task_run_state", "task_run_artifact"):
        return {"task_run": scope.condition("task_run")}
    found: Mapping[str, Any] = scope.condition(table)
    return found


def _secret_value(root: Any, info: Any, name: str) -> Any:
    info.context.scope.check_secret(info.context.connection, name)
    return _resolved("secret_value", root, info, name=name)


def _task_run_info(root: Any, info: Any, task_run_id: str) -> Any:
    info.context.scope.check_task_runs(info.context.connection, [task_run_id])
    return _resolved("get_task_run_info", root, info, task_run_id=task_run_id)


def _resolved(field: str, root: Any, info: Any, **given: Any) -> Any:
    resolve = ROOT_FIELDS[field].resolve
    assert resolve is not None, "each of them has one"
    return resolve(root, info, **given)


def _checked(field: str, resolve: Any) -> GraphQLField:
    usual = ROOT_FIELDS[field]
    return GraphQLField(usual.type, usual.args, resolve)


RUN_FIELDS: Mapping[str, GraphQLField] = {
    **{name: ROOT_FIELDS[name] for name in ("hello", "auth_info", "user")},
    "secret_value": _checked("secret_value", _secret_value),
    "get_task_run_info": _checked("get_task_run_info", _task_run_info),
}
