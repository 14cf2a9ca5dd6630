"""A kind of another package: added in one place, planned, forked, run and reported by an agent like any other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.engines import registry
from flowherd.engines.base import AgentDefaults, Engine
from flowherd.errors import ConfigurationError, UnsupportedStorage
from flowherd.states import RunState
from flowherd.values import FlowRun
from flowherd_runner.contract import files
from flowherd_runner.contract.spec import RunSpec
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

#: Adds up the numbers of its target, and fails when there are none.
KIND_FILE = """
from flowherd_runner.in_fork import enter, run_and_exit
from flowherd_runner.kinds.definition import Kind

def run(flow):
    enter(flow, ["adding"])
    run_and_exit(flow, lambda: print("sum", sum(flow.spec.target["numbers"]) or 1 / 0))

KINDS = {"adding": Kind(run, in_fork=True)}
"""


def describe(spec: RunSpec, flow_run: FlowRun, config: Mapping[str, Any], defaults: AgentDefaults) -> RunSpec:
    numbers = flow_run.flow.storage.get("numbers")
    if not isinstance(numbers, list):
        raise UnsupportedStorage("Adding storage needs numbers")
    return spec._replace(kind="adding", target={"numbers": numbers})


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    """The engine of that package, added to all others."""
    file = tmp_path / "adding.py"
    file.write_text(KIND_FILE)
    engine = Engine(
        name="adder",
        recognises=lambda storage: storage.get("type") == "Adding",
        describe=describe,
        kinds=frozenset({"adding"}),
        kind_file=file,
    )
    monkeypatch.setattr(registry, "ENGINES", [*registry.ENGINES])
    registry.register(engine)
    return engine


@pytest.fixture
def backend(engine: Engine) -> MemoryBackend:
    """A backend that hands out runs of that engine."""
    backend = MemoryBackend()
    backend.engine = engine.name
    return backend


def test_its_runs_succeed_and_fail_and_are_refused_like_all_others(backend: MemoryBackend) -> None:
    with going(LocalAgent(backend=backend, hostname_label=False)):
        good, bad, wrong = (
            backend.add_run({"type": "Adding", "numbers": numbers}, run_config={"env": {"A": "b"}})
            for numbers in ([1, 2, 3], [], None)
        )
        ends = [wait_for_end(backend, run_id) for run_id in (good, bad, wrong)]
    assert ends == [RunState.SUCCESS, RunState.FAILED, RunState.FAILED]
    assert "sum 6" in backend.log(good)
    assert "ZeroDivisionError" in backend.message(bad)
    assert "Adding storage needs numbers" in backend.message(wrong)


def test_an_agent_that_does_not_know_it_can_still_finish_a_run_that_another_has_planned(
    backend: MemoryBackend, engine: Engine, clean_environment: Path
) -> None:
    """spec.json says all that a start needs."""
    agent = LocalAgent(backend=backend, hostname_label=False)
    run_id = backend.add_run({"type": "Adding", "numbers": [4]})
    (flow_run,) = backend.ready_runs([], ())
    agent.update_state(flow_run)
    agent.cleanup()
    spec = files.read_json(str(clean_environment / "agents" / "agent" / "runs" / run_id), files.SPEC_FILE)
    assert spec is not None and spec["kind_file"] == str(engine.kind_file)
    registry.ENGINES.remove(engine)
    backend.engine = "plain"
    with going(LocalAgent(backend=backend, hostname_label=False)):
        wait_until(lambda: "sum 4" in backend.log(run_id))
        assert wait_for_end(backend, run_id) is RunState.SUCCESS


def test_a_backend_whose_engine_is_not_known_keeps_the_agent_from_its_start(backend: MemoryBackend) -> None:
    backend.engine = "unheard-of"
    with pytest.raises(ConfigurationError, match="'unheard-of', which is not known here"):
        LocalAgent(backend=backend, hostname_label=False).start()
