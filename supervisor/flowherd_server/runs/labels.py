"""Labels of runs and agents, and the dialect's rule of which agent may take which run, in SQL.

An agent may take a run if it has all of the run's labels. An agent with labels leaves runs without labels to agents
without labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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


def without_labels(run_labels: str) -> str:
    """Return the condition `labels_match` for an agent without labels; `run_labels` is a column with a JSON list."""
    return f"json_array_length({run_labels}) = 0"


def with_labels(run_labels: str) -> str:
    """Return the condition `labels_match` for an agent with labels, whose JSON list is the condition's parameter."""
    foreign = (
        f"SELECT 1 FROM json_each({run_labels}) AS theirs WHERE theirs.value NOT IN (SELECT value FROM json_each(?))"
    )
    return f"(json_array_length({run_labels}) > 0 AND NOT EXISTS ({foreign}))"
