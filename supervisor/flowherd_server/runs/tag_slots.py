"""Limits on the number of task runs with a tag that run at the same time.

There is no counter: a slot is held by a task run that is stored as Running in an active flow run, so it is free as soon
as either has ended, however it ended.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select

from flowherd.states import ACTIVE, RunState
from flowherd_server.call import Call
from flowherd_server.store.tables import FLOW, FLOW_RUN, TASK, TASK_RUN, TASK_TAG_LIMIT

_ACTIVE_NAMES = sorted(ACTIVE)


@dataclass(frozen=True)
class FullTag:
    """A tag whose limit is reached."""

    tag: str
    limit: int


def full_tag(call: Call, task_id: str) -> FullTag | None:
    """Return the task's first tag without a free slot, or None if every tag has one."""
    query = (
        select(TASK_TAG_LIMIT.c.tag, TASK_TAG_LIMIT.c.limit, TASK_TAG_LIMIT.c.tenant_id)
        .join(FLOW, FLOW.c.tenant_id == TASK_TAG_LIMIT.c.tenant_id)
        .join(TASK, TASK.c.flow_id == FLOW.c.id)
        .where(TASK.c.id == task_id, _has_tag(TASK_TAG_LIMIT.c.tag))
        .order_by(TASK_TAG_LIMIT.c.seq)
    )
    for tag, limit, tenant_id in call.connection.execute(query).all():
        if _running(call, tag, tenant_id) >= limit:
            return FullTag(tag, limit)
    return None


def _has_tag(tag: ColumnElement[str]) -> ColumnElement[bool]:
    tags = func.json_each(TASK.c.tags).table_valued("value").alias()
    return select(tags.c.value).where(tags.c.value == tag).exists()


def _running(call: Call, tag: str, tenant_id: str) -> int:
    tags = func.json_each(TASK.c.tags).table_valued("value").alias()
    query = (
        select(func.count())
        .select_from(TASK_RUN)
        .join(TASK, TASK.c.id == TASK_RUN.c.task_id)
        .join(FLOW_RUN, FLOW_RUN.c.id == TASK_RUN.c.flow_run_id)
        .where(
            TASK_RUN.c.state == RunState.RUNNING.value,
            FLOW_RUN.c.state.in_(_ACTIVE_NAMES),
            FLOW_RUN.c.tenant_id == tenant_id,
            select(tags.c.value).where(tags.c.value == tag).exists(),
        )
    )
    count: int = call.connection.execute(query).scalar_one()
    return count
