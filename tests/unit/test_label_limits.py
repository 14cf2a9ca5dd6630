"""agent.label_limits: which runs an agent still takes, by what lives and what is being deployed."""

from __future__ import annotations

from collections.abc import Sequence

from flowherd.agent.label_limits import LabelLimits
from flowherd.agent.platform import Elsewhere
from flowherd.flow_run import FlowRun, as_flow_run


class Living(Elsewhere):
    """A platform on which some runs live."""

    def __init__(self, **labels: Sequence[str]) -> None:
        super().__init__(set())
        self.labels = labels

    def labels_of_living(self) -> dict[str, Sequence[str]]:
        return dict(self.labels)


def run(run_id: str, *labels: str) -> FlowRun:
    return as_flow_run({"id": run_id, "labels": labels})


def test_one_answer_with_many_runs_fills_a_label_and_no_more() -> None:
    limits = LabelLimits({"db": 2}, lambda: Living(a=["host", "db"]))
    found = limits.admit([run("b", "db"), run("c", "db", "gpu"), run("d", "gpu")], {"b", "c", "d"})
    assert [one["id"] for one in found] == ["b", "d"]


def test_a_run_counts_once_while_it_is_deployed_and_then_lives() -> None:
    platform = Living()
    limits = LabelLimits({"db": 2}, lambda: platform)
    limits.admit([run("a", "db")], {"a"})
    platform.labels["a"] = ["db"]
    assert [one["id"] for one in limits.admit([run("b", "db")], {"a", "b"})] == ["b"]
    assert limits.admit([run("c", "db")], {"b", "c"}) == []


def test_a_run_that_could_not_be_deployed_gives_its_place_back() -> None:
    limits = LabelLimits({"db": 1}, Living)
    limits.admit([run("a", "db")], {"a"})
    assert [one["id"] for one in limits.admit([run("b", "db")], {"b"})] == ["b"]


def test_the_backend_is_asked_without_the_labels_that_are_full() -> None:
    limits = LabelLimits({"db": 1, "gpu": 1}, lambda: Living(a=["db"]))
    assert limits.open_labels(["host", "db", "gpu"], ()) == ["host", "gpu"]
    assert limits.open_labels(["db"], ()) is None
    assert LabelLimits({}, Living).open_labels([], ()) == []
