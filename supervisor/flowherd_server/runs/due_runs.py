"""Which flow runs an agent may claim now, found without reading the runs that wait for other agents.

Runs that wait are in an index by their labels, written as JSON. The search goes through the sets of labels in this
index, and from one that does not fit it leaps to the next that may.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, String, bindparam, func, select, text, type_coerce

from flowherd.states import RunState
from flowherd_server.label_rule import labels_match
from flowherd_server.offers import DueRun
from flowherd_server.runs.labels import labels_match_sql
from flowherd_server.store.indexes import WAITS
from flowherd_server.store.tables import FLOW_RUN, TASK_RUN

_LABELS = type_coerce(FLOW_RUN.c.labels, String)
#: The columns of `DueRun`.
_DUE_RUN = FLOW_RUN.c.id, FLOW_RUN.c.version, FLOW_RUN.c.labels


def due_flow_runs(
    connection: Connection,
    tenant_id: str,
    labels: Collection[str],
    before_us: int,
    limit: int,
    tasks_before_us: int | None = None,
    without: Sequence[str] = (),
) -> list[DueRun]:
    """Return up to `limit` runs that an agent with `labels` may claim, those due for longest first.

    Running flow runs with a task run that is due come last: they must be started again if their process is gone. Their
    task runs must be due at `tasks_before_us`; None means at `before_us`. The runs in `without` are left out.
    """
    waits = FLOW_RUN.c.tenant_id == tenant_id, text(WAITS)

    def next_labels(after: str) -> str | None:
        query = select(_LABELS).where(*waits, after < _LABELS).order_by(FLOW_RUN.c.labels).limit(1)
        found: str | None = connection.execute(query).scalar()
        return found

    left_out = _not_among(without)
    due: list[tuple[int, int, DueRun]] = []
    for fitting in fitting_labels(labels, next_labels):
        query = select(FLOW_RUN.c.state_start_time, FLOW_RUN.c.seq, *_DUE_RUN)
        query = query.where(
            *waits, type_coerce(FLOW_RUN.c.labels, String) == fitting, FLOW_RUN.c.state_start_time <= before_us
        )
        query = query.where(*left_out).order_by(FLOW_RUN.c.state_start_time, FLOW_RUN.c.seq).limit(limit)
        due.extend((start_us, seq, DueRun(*run)) for start_us, seq, *run in connection.execute(query))
    found = [run for *_, run in sorted(due, key=lambda each: each[:2])[:limit]]
    if len(found) < limit:
        tasks_before_us = before_us if tasks_before_us is None else tasks_before_us
        again = runs_with_due_task_runs(tenant_id, labels, tasks_before_us).where(*left_out)
        found.extend(DueRun(*row) for row in connection.execute(again.limit(limit - len(found))))
    return found


def _not_among(run_ids: Sequence[str]) -> list[ColumnElement[bool]]:
    """Return the condition that a flow run is none of these; no condition without any."""
    if not run_ids:
        return []
    values = func.json_each(bindparam(None, json.dumps(run_ids))).table_valued("value").alias()
    return [FLOW_RUN.c.id.not_in(select(values.c.value))]


def fitting_labels(agent_labels: Collection[str], next_labels: Callable[[str], str | None]) -> Iterator[str]:
    """Return those sets of labels, as JSON lists, of which an agent with `agent_labels` may take runs.

    `next_labels` returns the first JSON list after a text that runs have. A text between two lists can be given too: a
    list of labels is followed by a comma or a bracket, which both sort after a quotation mark.
    """
    ours = sorted(map(json.dumps, set(agent_labels)))
    # An agent without labels only takes runs without labels, and "[]" is the last list.
    after: str | None = "[" if ours else "[\\"
    while after is not None and (found := next_labels(after)) is not None:
        labels = json.loads(found)
        if labels_match(labels, agent_labels):
            yield found
            after = found
        else:
            after = _past(labels, ours)


def _past(labels: Sequence[str], ours: Sequence[str]) -> str | None:
    """Return a text after all lists that lack one of `ours` at the same place as `labels`; None if that is the end."""
    written = list(map(json.dumps, labels))
    at = next((at for at, label in enumerate(written) if label not in ours), None)
    if at is None:  # no labels at all, which is the last list
        return None
    known = written[:at]
    candidate = next((label for label in ours if label > written[at] and label not in known), None)
    if candidate is not None:
        return "[" + ",".join([*known, candidate])
    # "-" sorts after the comma of all longer lists with the same beginning, and before the bracket that ends it.
    return "[" + ",".join(known) + "-" if known else None


def runs_with_due_task_runs(tenant_id: str, labels: Collection[str], before_us: int) -> Select[Any]:
    """Return the query for Running flow runs that have a task run that is due, and fit an agent with `labels`."""
    due = select(TASK_RUN.c.id).where(
        TASK_RUN.c.flow_run_id == FLOW_RUN.c.id,
        text(f"{TASK_RUN.name}.{WAITS}"),
        TASK_RUN.c.state_start_time <= before_us,
    )
    running = FLOW_RUN.c.state == RunState.RUNNING.value
    query = select(*_DUE_RUN).where(FLOW_RUN.c.tenant_id == tenant_id, running, due.exists())
    return query.where(labels_match_sql(FLOW_RUN.c.labels, labels)).order_by(FLOW_RUN.c.created)
