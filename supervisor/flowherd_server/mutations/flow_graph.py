"""Storing the tasks and edges of a flow, which come with the flow or in batches after it.

Tasks and edges that are sent again change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import insert, select, update

from flowherd_server.call import Call
from flowherd_server.errors import Refused
from flowherd_server.mutations.flow_document import slug_of
from flowherd_server.store.microseconds import SECOND_US
from flowherd_server.store.tables import EDGE, TASK

Document = Mapping[str, Any]
#: Upstream task, downstream task, key.
_EdgeIdentity = tuple[str, str, str | None]


def add_tasks(call: Call, flow_id: str, tasks: Sequence[Document]) -> list[Document]:
    """Store and return those of `tasks` whose slug the flow does not have yet, in their order."""
    known = set(_task_ids(call, flow_id))
    new = []
    for task in tasks:
        if task["slug"] not in known:
            known.add(task["slug"])
            new.append(task)
    if new:
        call.connection.execute(insert(TASK), [_task_row(call, flow_id, task) for task in new])
    return new


def add_edges(call: Call, flow_id: str, edges: Sequence[Document]) -> list[Document]:
    """Store and return those of `edges` that the flow does not have yet, in their order.

    Raises Refused if an edge names a task that the flow does not have.
    """
    ids, known = _task_ids(call, flow_id), _edges(call, flow_id)
    new, rows = [], []
    for edge in edges:
        identity = _identity(ids, edge)
        if identity not in known:
            known.add(identity)
            new.append(edge)
            rows.append(_edge_row(flow_id, identity, edge))
    if rows:
        call.connection.execute(insert(EDGE), rows)
        _mark_mapped(call, {row["downstream_task_id"] for row in rows if row["mapped"]})
    return new


def _task_ids(call: Call, flow_id: str) -> dict[str, str]:
    rows = call.connection.execute(select(TASK.c.slug, TASK.c.id).where(TASK.c.flow_id == flow_id))
    return {row.slug: row.id for row in rows}


def _edges(call: Call, flow_id: str) -> set[_EdgeIdentity]:
    columns = (EDGE.c.upstream_task_id, EDGE.c.downstream_task_id, EDGE.c.key)
    rows = call.connection.execute(select(*columns).where(EDGE.c.flow_id == flow_id))
    return {(upstream, downstream, key) for upstream, downstream, key in rows}


def _mark_mapped(call: Call, task_ids: set[str]) -> None:
    """Mark tasks as mapped; the document only marks the edges that lead to them."""
    for task_id in task_ids:
        call.connection.execute(update(TASK).where(TASK.c.id == task_id), {"mapped": True})


def _task_row(call: Call, flow_id: str, task: Document) -> dict[str, Any]:
    retries, delay_s, tags = task.get("max_retries"), task.get("retry_delay"), task.get("tags")
    return {
        "id": str(uuid4()),
        "flow_id": flow_id,
        "slug": task["slug"],
        "name": _text(task.get("name")),
        "description": _text(task.get("description")),
        "type": _text(task.get("type")),
        "mapped": False,
        "max_retries": retries if isinstance(retries, int) else None,
        "retry_delay": round(delay_s * SECOND_US) if isinstance(delay_s, (int, float)) else None,
        "cache_key": _text(task.get("cache_key")),
        "tags": tags if isinstance(tags, list) else [],
        "created": call.now,
    }


def _identity(ids: Mapping[str, str], edge: Document) -> _EdgeIdentity:
    return _end(ids, edge, "upstream_task"), _end(ids, edge, "downstream_task"), _text(edge.get("key"))


def _end(ids: Mapping[str, str], edge: Document, end: str) -> str:
    slug = slug_of(edge, end)
    if slug is None or slug not in ids:
        raise Refused(f"an edge names the task {slug!r} as its {end}, but the flow has no such task")
    return ids[slug]


def _edge_row(flow_id: str, identity: _EdgeIdentity, edge: Document) -> dict[str, Any]:
    upstream, downstream, key = identity
    return {
        "id": str(uuid4()),
        "flow_id": flow_id,
        "upstream_task_id": upstream,
        "downstream_task_id": downstream,
        "key": key,
        "mapped": edge.get("mapped") is True,
    }


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
