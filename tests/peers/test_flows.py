"""The same flows of the real Prefect through its own LocalAgent and through flowherd's agent, on the same server."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.peers.environments import PYTHONS, required_peer
from tests.peers.ground import PROJECT, Going, Ground, flowherd_agent, on_ground, real_agent
from tests.peers.outcomes import Line, Outcome
from tests.peers.scenarios import SCENARIOS, Scenario, names, soon, write_module, write_repository

AGENTS = {"real": real_agent, "flowherd": flowherd_agent}
#: Runs at a time and agent: enough that they meet, and few enough for two cores.
_AT_ONCE = 3
_REGISTER = Path(__file__).with_name("flows") / "register.py"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Runs:
    """The scenarios of these titles on their way, through both agents at once."""

    def __init__(self, ground: Ground, agents: list[Going], flows: dict[str, str], titles: set[str]) -> None:
        self.ground = ground
        self._flows = flows
        self._futures: dict[tuple[str, str], Future[Outcome]] = {}
        self._pools = [ThreadPoolExecutor(_AT_ONCE) for _ in agents]
        self._stopped = threading.Event()
        for agent, pool in zip(agents, self._pools, strict=True):
            for scenario in SCENARIOS:
                if scenario.title in titles and scenario.is_for(agent.kind, ground.peer.new):
                    self._futures[agent.kind, scenario.title] = pool.submit(self._through, agent, scenario)

    def _through(self, agent: Going, scenario: Scenario) -> Outcome:
        if scenario.after:
            self.outcome(agent.kind, scenario.after)
        if "scheduled_start_time" in scenario.given:
            scenario = replace(scenario, given={"scheduled_start_time": soon()})
        handle = scenario.start(self.ground, agent, self._flows[scenario.flow])
        scenario.act(handle)
        return handle.wait_for_end()

    def outcome(self, agent: str, title: str) -> Outcome:
        """What became of a scenario, once it has ended."""
        return self._futures[agent, title].result(240)

    def close(self) -> None:
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module", params=PYTHONS)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    peer = required_peer(request.param)
    with ExitStack() as stack:
        ground = stack.enter_context(on_ground(peer, tmp_path_factory.mktemp("ground")))
        modules, repository = ground.place / "modules", ground.place / "repository"
        write_module(modules)
        write_repository(repository, subprocess.run)
        ground.make_project()
        flows = ground.place / "flows.json"
        ground.python(str(_REGISTER), PROJECT, str(flows), PYTHONPATH=str(modules), timeout_s=120)
        if not peer.new:
            _without_heartbeats(ground, names(flows))
        settings = {
            "PEERS_OF_THE_AGENT": "known",
            "PREFECT__CONTEXT__SECRETS__PEERS_SECRET": "hush",
            "PREFECT__CONTEXT__SECRETS__PEERS_REPOSITORY": str(repository),
            "PREFECT__LOGGING__EXTRA_LOGGERS": "['peers.extra']",
        }
        agents = [stack.enter_context(start(ground, "-p", str(modules), **settings)) for start in AGENTS.values()]
        going = Runs(ground, agents, names(flows), _wanted(request.session.items))
        stack.callback(going.close)
        yield going


def _without_heartbeats(ground: Ground, flows: dict[str, str]) -> None:
    """The old line starts an interpreter for the heartbeats of each task run; a few flows of those are enough."""
    for name in flows.keys() - {"parameters", "retrying", "cancelled"}:
        ground.client.do("disable_flow_heartbeat", flow_id=flows[name])


def _wanted(items: list[pytest.Item]) -> set[str]:
    """The titles of the scenarios that the selected tests look at, and of those that must come before."""
    here = [item.callspec.params["scenario"] for item in items if item.path == Path(__file__)]
    return {title for scenario in here for title in (scenario.title, scenario.after) if title}


def _scenario(runs: Runs, scenario: Scenario) -> Scenario:
    if scenario.new_only and not runs.ground.peer.new:
        pytest.skip("this line of Prefect does not have it")
    return scenario


@pytest.mark.parametrize(
    ("agent", "scenario"),
    [
        pytest.param(agent, scenario, id=f"{scenario.title.replace(' ', '-')}-{agent}")
        for scenario in SCENARIOS
        for agent in AGENTS
        if agent in scenario.agents
    ],
)
def test_a_flow_ends_as_it_must(runs: Runs, agent: str, scenario: Scenario) -> None:
    found = runs.outcome(agent, _scenario(runs, scenario).title)
    assert found.state == scenario.ends, found
    for task, states in scenario.tasks.items():
        assert found.end_of(task) == states, found
    for text in scenario.says:
        assert any(text in message for message in found.messages), f"{text!r} in\n{found}"
    for text in scenario.never_says:
        assert not any(text in message for message in found.messages), f"{text!r} not in\n{found}"


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(s, id=s.title.replace(" ", "-")) for s in SCENARIOS if set(AGENTS) <= set(s.agents)],
)
def test_both_agents_tell_the_same_of_a_flow(runs: Runs, scenario: Scenario) -> None:
    """The run's states, each task run's states, and each line of the flow's loggers with the task that wrote it."""
    real, ours = (runs.outcome(agent, _scenario(runs, scenario).title) for agent in AGENTS)
    assert ours.history == real.history, f"{ours}\n\n{real}"
    assert ours.tasks == real.tasks
    mine, theirs = _compared(ours, scenario), _compared(real, scenario)
    if scenario.ordered:
        assert mine == theirs
    assert Counter(mine) == Counter(theirs)


def _compared(outcome: Outcome, scenario: Scenario) -> list[Line]:
    return [line for line in outcome.lines if scenario.compared(line.message)]
