"""Labels of runs and agents, and the dialect's rule of which agent may take which run, in SQL.

An agent may take a run if it has all of the run's labels. An agent with labels leaves runs without labels to agents
without labels.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, func, not_, select

from flowherd_server.errors import Refused


def check_labels(what: str, labels: Any) -> list[str] | None:
    """Return `labels` if it is a list of strings or None. Raises Refused, naming it as `what`, otherwise."""
    if labels is None:
        return None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise Refused(f"{what} must be a list of strings")
    return labels


def normal_labels(labels: Iterable[str]) -> list[str]:
    """Return the labels as they are stored: sorted, without repetitions."""
    return sorted(set(labels))


def labels_match_sql(run_labels: ColumnElement[object], agent_labels: Collection[str]) -> ColumnElement[bool]:
    """Return the condition `labels_match` for a column that holds a JSON list of labels."""
    has_labels = func.json_array_length(run_labels) > 0
    if not agent_labels:
        return not_(has_labels)
    theirs = func.json_each(run_labels).table_valued("value").alias()
    ours = func.json_each(bindparam(None, json.dumps(sorted(agent_labels)))).table_valued("value").alias()
    foreign = select(theirs.c.value).where(theirs.c.value.not_in(select(ours.c.value)))
    return and_(has_labels, not_(foreign.exists()))
