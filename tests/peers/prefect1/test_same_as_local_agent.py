"""The same flows through Prefect's own LocalAgent and through flowherd's agent, at the same embedded server.

Each scenario runs in one of the versions of Prefect, those of `IN_BOTH` in both; with --full, all run in both, and
those that the engine alone decides, too.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.peers.agent_processes import BOTH, OURS, THEIRS, AgentProcess
from tests.peers.compared_runs import ComparedRuns, selected_scenarios
from tests.peers.environments import PREFECT_0_AND_1, PREFECT_1, required_installation
from tests.peers.prefect1.outcomes import Line, Outcome
from tests.peers.prefect1.scenarios import (
    SCENARIOS,
    Scenario,
    in_four_seconds,
    registered_flows,
    write_module,
    write_repository,
)
from tests.peers.prefect1.workspace import PROJECT, Workspace, flowherd_agent, local_agent, running_workspace

AGENTS = {THEIRS: local_agent, OURS: flowherd_agent}
#: What the two versions do by different code of Prefect's or of ours and no other test here shows in both.
IN_BOTH = {"parameters", "failing", "cancelled", "logging-of-all-kinds", "script"}
_REGISTER = Path(__file__).with_name("flows") / "register.py"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def choices() -> Iterator[tuple[str, Scenario, bool]]:
    """Each scenario in each version that has it, and whether the usual run leaves it out."""
    chosen = list(PREFECT_0_AND_1)
    for scenario in SCENARIOS:
        if scenario.prefect_1_only:
            yield PREFECT_1, scenario, scenario.engine_alone
            continue
        if scenario.after is None:  # a scenario runs where the one before it runs
            chosen.reverse()
        for version in PREFECT_0_AND_1:
            is_second = scenario.title not in IN_BOTH and version != chosen[0]
            yield version, scenario, scenario.engine_alone or is_second


def each_choice(agents: tuple[str, ...]) -> pytest.MarkDecorator:
    """Parametrise a test with the versions and the scenarios that all these agents run."""
    return pytest.mark.parametrize(
        ("runs", "scenario"),
        [
            pytest.param(
                version,
                scenario,
                id=f"{version}-{scenario.title.replace(' ', '-')}",
                marks=[pytest.mark.full] if left_out else [],
            )
            for version, scenario, left_out in choices()
            if set(agents) <= set(scenario.agents)
        ],
        indirect=["runs"],
        scope="module",
    )


class Runs:
    """The selected scenarios of one version of Prefect, on their way through both agents at once."""

    def __init__(
        self, workspace: Workspace, agents: list[AgentProcess], flows: dict[str, str], selected: list[Scenario]
    ) -> None:
        self._workspace = workspace
        self._flows = flows
        self._runs: ComparedRuns[Scenario, Outcome] = ComparedRuns(
            agents, lambda agent: [scenario for scenario in selected if agent.name in scenario.agents], self._run
        )

    def _run(self, agent: AgentProcess, scenario: Scenario) -> Outcome:
        if scenario.after:
            self.outcome(agent.name, scenario.after)
        if "scheduled_start_time" in scenario.given:
            scenario = replace(scenario, given={"scheduled_start_time": in_four_seconds()})
        run = scenario.start(self._workspace, agent, self._flows[scenario.flow])
        scenario.act(run)
        return run.wait_for_end()

    def outcome(self, agent: str, title: str) -> Outcome:
        """Wait for the end of a scenario and return what became of it."""
        return self._runs.result(agent, title)

    def close(self) -> None:
        self._runs.close()


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    version = request.param
    with ExitStack() as stack:
        workspace = stack.enter_context(
            running_workspace(required_installation(version), tmp_path_factory.mktemp("same"))
        )
        modules, repository = workspace.directory / "modules", workspace.directory / "repository"
        write_module(modules)
        write_repository(repository, subprocess.run)
        workspace.make_project()
        flows_file = workspace.directory / "flows.json"
        workspace.python(str(_REGISTER), PROJECT, str(flows_file), more={"PYTHONPATH": str(modules)}, timeout_s=120)
        flows = registered_flows(flows_file)
        _disable_heartbeats(workspace, flows)
        settings = {
            "PEERS_OF_THE_AGENT": "known",
            "PREFECT__CONTEXT__SECRETS__PEERS_SECRET": "hush",
            "PREFECT__CONTEXT__SECRETS__PEERS_REPOSITORY": str(repository),
            "PREFECT__LOGGING__EXTRA_LOGGERS": "['peers.extra']",
        }
        agents = [stack.enter_context(start(workspace, "-p", str(modules), more=settings)) for start in AGENTS.values()]
        runs = Runs(workspace, agents, flows, _selected(request.session.items, version))
        stack.callback(runs.close)
        yield runs


def _disable_heartbeats(workspace: Workspace, flows: dict[str, str]) -> None:
    """Keep them for a few flows: Prefect starts an interpreter for those of each run, and 0.x for each task run too."""
    for name in flows.keys() - {"parameters", "retrying", "cancelled"}:
        workspace.client.do("disable_flow_heartbeat", flow_id=flows[name])


def _selected(items: list[pytest.Item], version: str) -> list[Scenario]:
    """The scenarios of the selected tests of this version, and those that must run before them, in their order."""
    selected = selected_scenarios([item for item in items if f"[{version}-" in item.nodeid], __file__)
    titles = {title for scenario in selected for title in (scenario.title, scenario.after)}
    return [scenario for scenario in SCENARIOS if scenario.title in titles]


@each_choice((OURS,))
def test_a_flow_ends_as_it_must(runs: Runs, scenario: Scenario) -> None:
    """With both agents, except where only flowherd reports the end."""
    for agent in scenario.agents:
        found = runs.outcome(agent, scenario.title)
        assert found.state == scenario.ends, found
        for task, states in scenario.tasks.items():
            assert found.end_of(task) == states, found
        for text in scenario.says:
            assert any(text in message for message in found.messages), f"{text!r} in\n{found}"
        for text in scenario.never_says:
            assert not any(text in message for message in found.messages), f"{text!r} not in\n{found}"


@each_choice(BOTH)
def test_both_agents_tell_the_same_of_a_flow(runs: Runs, scenario: Scenario) -> None:
    """The run's states, each task run's states, and each line of the flow's loggers with the task that wrote it."""
    theirs, ours = (runs.outcome(agent, scenario.title) for agent in BOTH)
    assert ours.history == theirs.history, f"{ours}\n\n{theirs}"
    assert ours.tasks == theirs.tasks
    our_lines, their_lines = _compared(ours, scenario), _compared(theirs, scenario)
    if scenario.ordered:
        assert our_lines == their_lines
    assert Counter(our_lines) == Counter(their_lines)


def _compared(outcome: Outcome, scenario: Scenario) -> list[Line]:
    return [line for line in outcome.lines if scenario.compared(line.message)]
