"""Which flow runs an agent may claim now, found without reading the runs that wait for other agents.

Runs that wait are in an index by their labels, written as JSON. The search goes through the sets of labels in this
index, and from one that does not fit it leaps to the next that may.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from flowherd.states import RunState
from flowherd_server.label_rule import labels_match
from flowherd_server.offers import DueRun
from flowherd_server.runs.labels import with_labels, without_labels
from flowherd_server.store.indexes import WAITS
from flowherd_server.store.plain import plain

_NEXT_LABELS = f"SELECT labels FROM flow_run WHERE tenant_id = ? AND {WAITS} AND labels > ? ORDER BY labels LIMIT 1"
#: The columns of `DueRun`.
_DUE_RUN = "flow_run.id, flow_run.version, flow_run.labels"
_LEFT_OUT = "flow_run.id NOT IN (SELECT value FROM json_each(?))"
_DUE = (
    f"SELECT state_start_time, seq, {_DUE_RUN} FROM flow_run WHERE tenant_id = ? AND {WAITS} AND labels = ? "
    f"AND state_start_time <= ? AND {_LEFT_OUT} ORDER BY state_start_time, seq LIMIT ?"
)
# Running flow runs that have a task run that is due.
_DUE_AGAIN = (
    f"SELECT {_DUE_RUN} FROM flow_run WHERE tenant_id = ? AND state = '{RunState.RUNNING}' AND EXISTS (SELECT 1 "
    f"FROM task_run WHERE task_run.flow_run_id = flow_run.id AND task_run.{WAITS} AND task_run.state_start_time <= ?) "
    f"AND {_LEFT_OUT} AND {{labels}} ORDER BY created LIMIT ?"
)
_DUE_AGAIN_WITHOUT_LABELS = _DUE_AGAIN.format(labels=without_labels("flow_run.labels"))
_DUE_AGAIN_WITH_LABELS = _DUE_AGAIN.format(labels=with_labels("flow_run.labels"))


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
    execute = plain(connection).execute

    def next_labels(after: str) -> str | None:
        found = execute(_NEXT_LABELS, (tenant_id, after)).fetchone()
        return None if found is None else found[0]

    left_out = json.dumps(without)
    due: list[tuple[int, int, DueRun]] = []
    for fitting in fitting_labels(labels, next_labels):
        rows = execute(_DUE, (tenant_id, fitting, before_us, left_out, limit))
        due.extend((start_us, seq, _due_run(row)) for start_us, seq, *row in rows)
    found = [run for *_, run in sorted(due, key=lambda each: each[:2])[:limit]]
    if len(found) < limit:
        tasks_before_us = before_us if tasks_before_us is None else tasks_before_us
        # An agent without labels only takes runs without.
        query = _DUE_AGAIN_WITH_LABELS if labels else _DUE_AGAIN_WITHOUT_LABELS
        ours = [json.dumps(sorted(labels))] if labels else []
        found.extend(map(_due_run, execute(query, (tenant_id, tasks_before_us, left_out, *ours, limit - len(found)))))
    return found


def _due_run(row: Sequence[Any]) -> DueRun:
    run_id, version, labels = row
    return DueRun(run_id, version, json.loads(labels))


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
