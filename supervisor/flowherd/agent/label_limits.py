"""How many runs with one label the agent runs at the same time: the setting agent.label_limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from flowherd.agent.platform import Platform
from flowherd.values import FlowRun


class LabelLimits:
    """Limits by label, for the runs that live at the platform and those that are being deployed to it."""

    def __init__(self, limits: Mapping[str, int], platform: Callable[[], Platform]) -> None:
        self._limits = limits
        self._platform = platform
        #: The labels of the runs that were admitted, by their ids, as long as they are being deployed.
        self._admitted: dict[str, Sequence[str]] = {}

    def use(self, limits: Mapping[str, int]) -> None:
        """Use other limits from now on; runs that go on count for them."""
        self._limits = limits

    def open_labels(self, labels: Sequence[str], deploying: Collection[str]) -> Sequence[str] | None:
        """Return those of the agent's labels whose runs may still be taken; None if there is none of several.

        A run fits an agent that has all of its labels, so without a label none is found that has it.
        """
        if not self._limits:
            return labels
        full = _full(self._limits, self._used(deploying))
        left = [label for label in labels if label not in full]
        return left if left or not labels else None  # an agent without labels would be given those without any

    def full(self, deploying: Collection[str]) -> dict[str, int]:
        """Return the labels of which no more runs are taken now, each with its limit."""
        limits = self._limits
        return {label: limits[label] for label in _full(limits, self._used(deploying))} if limits else {}

    def admit(self, flow_runs: Iterable[FlowRun], deploying: Collection[str]) -> list[FlowRun]:
        """Return the runs for which no label is full, in this order, and count them in. For one thread at a time."""
        if not self._limits:
            return list(flow_runs)
        admitted, used = [], self._used(deploying)
        for flow_run in flow_runs:
            labels = [label for label in flow_run.labels if label in self._limits]
            if _full(self._limits, used).isdisjoint(labels):
                used.update(labels)
                self._admitted[flow_run.id] = labels
                admitted.append(flow_run)
        return admitted

    def _used(self, deploying: Collection[str]) -> Counter[str]:
        self._admitted = {run_id: labels for run_id, labels in self._admitted.items() if run_id in deploying}
        labels_by_run = {**self._admitted, **self._platform().labels_of_living()}
        return Counter(label for labels in labels_by_run.values() for label in set(labels))


def _full(limits: Mapping[str, int], used: Counter[str]) -> set[str]:
    return {label for label, limit in limits.items() if used[label] >= limit}
