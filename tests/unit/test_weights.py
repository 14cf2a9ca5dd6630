"""Weights: what can be one, how it is said, and how a cgroup limits processor time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowherd import weights
from flowherd.client.new_flow import how_to_run
from flowherd.engines import run_config
from flowherd.engines.base import AgentDefaults
from flowherd.engines.plan import plan
from flowherd.errors import InvalidRequest, UnsupportedStorage
from flowherd.flow_description import description
from flowherd.host.processes import cgroups
from flowherd.states import RunState
from flowherd.values import Flow, FlowRun
from flowherd_runner.contract.spec import RunLimits, RunSpec, parse_spec, spec_to_json
from flowherd_runner.contract.weights import Weights, io_priority

ALL: dict[str, Any] = {"cpu": 1.5, "nice": 10, "io": "best-effort:7", "oom_score_adj": 500}


def test_a_runs_weights_are_its_own_and_the_agents_for_the_others() -> None:
    found = run_config.weights({"nice": 5, "io": None}, Weights(cpu=2, nice=10, io="idle"))
    assert found == Weights(cpu=2, nice=5, io="idle")
    spec = RunSpec("id", kind="command", weights=Weights(**ALL))
    assert parse_spec(json.loads(json.dumps(spec_to_json(spec)))).weights == Weights(**ALL)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"cpu": 0}, "cpu is a number of cores above 0"),
        ({"cpu": "2"}, "cpu is a number of cores above 0"),
        ({"cpu": float("inf")}, "cpu is a number of cores above 0"),
        ({"nice": 20}, "nice is a whole number from -20 to 19, not 20"),
        ({"nice": True}, "nice is a whole number"),
        ({"oom_score_adj": 1001}, "from -1000 to 1000"),
        ({"io": "realtime"}, "'realtime' is none of"),
        ({"io": "best-effort:8"}, "best-effort:0"),
        ({"io": "best-effort:"}, "is none of"),
        ({"io": 7}, "is none of"),
        ({"weight": 1}, "weight is no weight; weights are cpu, nice, io, oom_score_adj"),
    ],
)
def test_what_is_no_weight_is_refused_wherever_it_is_given(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(UnsupportedStorage, match=expected):
        run_config.weights(given, Weights())
    with pytest.raises(InvalidRequest, match=expected):
        how_to_run({"type": "Command"}, (), any_host=True, weights=given)


def test_classes_of_io_are_the_kernels_numbers() -> None:
    """As `ionice -p` shows them: class 2 (best-effort) with its level, class 3 (idle)."""
    found = {text: divmod(io_priority(text), 1 << 13) for text in ("idle", "best-effort", "best-effort:7")}
    assert found == {"idle": (3, 0), "best-effort": (2, 4), "best-effort:7": (2, 7)}


def test_weights_are_shown_by_their_names_and_what_another_program_wrote_is_left_out() -> None:
    assert weights.in_words(ALL) == ["cpu 1.5", "nice 10", "io best-effort:7", "oom_score_adj 500"]
    assert weights.in_words({"cpu": "many", "nice": 1, "other": 2}) == ["nice 1"]
    assert weights.in_words(None) == []
    assert weights.of_run(Weights(nice=1, oom_score_adj=100)) == ["nice 1"], "every run has this score"
    assert description({"run_config": {"weights": ALL}}).items() >= ALL.items()


def test_a_cgroup_gets_its_processor_time_from_a_controller_that_is_enabled_when_it_is_first_needed(
    tmp_path: Path,
) -> None:
    control = tmp_path / "cgroup.subtree_control"
    control.write_text("")
    assert cgroups.create(tmp_path / "plain", RunLimits())
    assert control.read_text() == ""
    assert cgroups.create(tmp_path / "without", RunLimits(), cores=1.5)
    assert control.read_text() == "+cpu"
    assert not (tmp_path / "without" / "cpu.max").exists(), "the kernel makes this file, or there is none"
    for cores, quota in ((1.5, "150000 100000"), (0.001, "1000 100000")):
        (tmp_path / "without" / "cpu.max").write_text("max 100000")
        cgroups.create(tmp_path / "without", RunLimits(), cores)
        assert (tmp_path / "without" / "cpu.max").read_text() == quota


def test_a_flow_that_is_kept_apart_cannot_put_itself_before_the_agent() -> None:
    def planned(**given: Any) -> RunSpec:
        config = {"weights": given, "isolation": "private"}
        flow = Flow(id="f", name="flow", storage={"type": "Command", "argv": ["true"]}, run_config=config)
        run = FlowRun(id="r", name="run", version=1, state=RunState.SCHEDULED, serialized_state={}, flow=flow)
        return plan(run, AgentDefaults(weights=Weights(nice=-20)), "claim")

    assert planned().weights.nice == -20, "what the agent's operator chooses is not the flow's choice"
    with pytest.raises(UnsupportedStorage, match=r"nice -20, below the agent's own -?\d+: set it for all runs"):
        planned(nice=-20)
    with pytest.raises(UnsupportedStorage, match="oom_score_adj -1000, below"):
        planned(oom_score_adj=-1000)
