"""The search for sets of labels that fit an agent: it finds all of them, and leaps over the others."""

from __future__ import annotations

import json
from collections.abc import Collection
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from flowherd_server.label_rule import labels_match
from flowherd_server.runs.due_runs import fitting_labels
from flowherd_server.runs.labels import normal_labels
from tests.support.mutations import fuzz

LABELS = st.sampled_from(["a", "ab", "a!", "b", "", '"', "é", ",", "]", "-", "\\"])


class Waiting:
    """The labels of runs that wait, in the order of an index."""

    def __init__(self, sets: Collection[list[str]]) -> None:
        self._texts = sorted({json.dumps(labels, separators=(",", ":")) for labels in sets})
        self.lookups = 0

    def after(self, text: str) -> str | None:
        self.lookups += 1
        return next((each for each in self._texts if each > text), None)

    def fitting(self, agent: Collection[str]) -> list[list[str]]:
        return [json.loads(text) for text in fitting_labels(agent, self.after)]


@given(sets=st.lists(st.lists(LABELS, max_size=4).map(normal_labels)), agent=st.sets(LABELS))
@fuzz(100)
def test_exactly_the_sets_of_labels_that_fit_the_agent_are_found(sets: list[list[str]], agent: set[str]) -> None:
    expected = [
        labels for labels in map(json.loads, {json.dumps(each) for each in sets}) if labels_match(labels, agent)
    ]
    assert sorted(Waiting(sets).fitting(agent)) == sorted(expected)


def test_sets_of_other_labels_are_leapt_over() -> None:
    others = [[f"x{number}", "gpu"] for number in range(1000)] + [["gpu", f"x{number}"] for number in range(1000)]
    waiting = Waiting([*others, ["gpu"], ["gpu", "z"]])
    assert waiting.fitting({"gpu", "z"}) == [["gpu", "z"], ["gpu"]]
    assert waiting.lookups <= 6


def test_an_agent_without_labels_looks_at_two_sets_at_most() -> None:
    waiting = Waiting([[], *([f"x{a}", f"y{b}"] for a, b in combinations(range(30), 2))])
    assert waiting.fitting(()) == [[]]
    assert waiting.lookups <= 3
