"""The dialect's rule of which agent may take which run; runs/labels.py has it in SQL."""

from __future__ import annotations

from collections.abc import Collection


def labels_match(run_labels: Collection[str], agent_labels: Collection[str]) -> bool:
    """Return whether an agent with `agent_labels` may take a run with `run_labels`."""
    return set(run_labels) <= set(agent_labels) and (bool(run_labels) or not agent_labels)
