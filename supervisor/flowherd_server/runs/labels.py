"""Which agent may take which run, in the dialect's rule, once for Python and once for SQL.

An agent takes a run when it has all of the run's labels; but an agent with labels leaves runs without any to agents
without any.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable

from sqlalchemy import ColumnElement, and_, bindparam, func, not_, select


def normal_labels(labels: Iterable[str]) -> list[str]:
    """Sorted and each once, as they are stored."""
    return sorted(set(labels))


def labels_match(run_labels: Collection[str], agent_labels: Collection[str]) -> bool:
    """Whether an agent with `agent_labels` may take a run with `run_labels`."""
    return set(run_labels) <= set(agent_labels) and (bool(run_labels) or not agent_labels)


def labels_match_sql(run_labels: ColumnElement[object], agent_labels: Collection[str]) -> ColumnElement[bool]:
    """`labels_match` for a column that holds a JSON list of labels."""
    has_labels = func.json_array_length(run_labels) > 0
    if not agent_labels:
        return not_(has_labels)
    theirs = func.json_each(run_labels).table_valued("value").alias()
    ours = func.json_each(bindparam(None, json.dumps(sorted(agent_labels)))).table_valued("value").alias()
    foreign = select(theirs.c.value).where(theirs.c.value.not_in(select(ours.c.value)))
    return and_(has_labels, not_(foreign.exists()))
