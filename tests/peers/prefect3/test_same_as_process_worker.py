"""The same deployments, made by Prefect's own command, through its process worker and through flowherd.

The scenarios called `core` are in the usual run, all of them with --full.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.peers.agent_processes import BOTH, OURS, THEIRS, AgentProcess
from tests.peers.compared_runs import ComparedRuns, selected_scenarios
from tests.peers.prefect3.outcomes import Outcome, outcome, plain
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.peers.prefect3.scenarios import SCENARIOS, Scenario
from tests.peers.prefect3.workspace import Prefect3Run, Workspace, flowherd_agent, process_worker
from tests.support.leftovers import none_left
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: How long the server may take to store what it was sent, seconds: task runs come to it as events.
_SETTLED_S = 20.0
#: What replaces the code of files that are deployed as good ones.
_BREAKING = {
    "syntax": "def main(:\n",
    "missing": "import there_is_no_such_module\n",
    "absent": "other = 1\n",
    "importing": "raise ValueError('at import')\n",
    "exiting": "import sys\nsys.exit(9)\n",
    "nothing": "main = 3\n",
}


class Runs:
    """The selected scenarios, on their way through both agents at once."""

    def __init__(
        self,
        workspace: Workspace,
        agents: list[AgentProcess],
        deployments: dict[str, str],
        selected: list[Scenario],
    ) -> None:
        self._workspace = workspace
        self._deployments = deployments
        self._results: dict[str, dict[str, str]] = {}
        self._runs: ComparedRuns[Scenario, str] = ComparedRuns(agents, lambda agent: selected, self._run)

    def _run(self, agent: AgentProcess, scenario: Scenario) -> str:
        facts = {"name": scenario.title, "parameters": scenario.parameters, **scenario.given}
        deployment = self._deployments[f"{agent.name} {scenario.title}"]
        filled = self._workspace.fill(facts, agent.name)
        prefect = self._workspace.prefect
        while True:
            run = Prefect3Run(agent, prefect.add_run(deployment, **filled), prefect)
            scenario.act(run)
            run.wait_for_end()
            if not self._is_lost_at_the_start(run.run_id):
                return run.run_id

    def _is_lost_at_the_start(self, run_id: str) -> bool:
        """Whether the worker has made it Crashed because its server was busy, before it started anything."""
        message = self._workspace.prefect.run(run_id)["state"]["message"] or ""
        return message.startswith("Failed to submit flow run to infrastructure") and " 503 " in message

    def run_id(self, agent: str, scenario: Scenario) -> str:
        """Wait for the end of the run."""
        return self._runs.result(agent, scenario.title)

    def outcome(self, agent: str, scenario: Scenario) -> Outcome:
        return outcome(self._workspace.prefect, self.run_id(agent, scenario))

    def result(self, agent: str, scenario: Scenario) -> str:
        """Return the result as the real client reads it: of all runs at once, when all have ended."""
        if agent not in self._results:
            self._results[agent] = self._workspace.results(agent, self._runs.results(agent))
        return self._results[agent][self.run_id(agent, scenario)]

    def close(self) -> None:
        self._runs.close()


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, prefect: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    workspace = Workspace(tmp_path_factory.mktemp("same"), prefect)
    workspace.prepare("compared")
    _store_values(prefect)
    selected = selected_scenarios(request.session.items, __file__)
    inner = Scenario(title="inner", entrypoint="subflows.py:inner")
    deployments = workspace.deploy([_deployment(workspace, scenario) for scenario in [*selected, inner]])
    for how, text in _BREAKING.items():
        (workspace.flows / f"broken_{how}.py").write_text(text)
    shutil.rmtree(workspace.flows / "__pycache__", ignore_errors=True)
    with none_left(), ExitStack() as stack:
        agents = [stack.enter_context(start(workspace)) for start in (process_worker, flowherd_agent)]
        runs = Runs(workspace, agents, deployments, selected)
        stack.callback(runs.close)
        yield runs


def _store_values(prefect: PrefectServer) -> None:
    """Store what the flows look up at the server."""
    for name, facts in {"compared": {}, "compared-rate": {"slot_decay_per_second": 10}}.items():
        prefect.ask("POST", "/v2/concurrency_limits/", {"name": name, "limit": 1, **facts})
    prefect.ask("POST", "/variables/", {"name": "compared_word", "value": "of the variable"})
    prefect.keep_secret("compared", "hush-hush")


def _deployment(workspace: Workspace, scenario: Scenario) -> dict[str, Any]:
    pool = {"name": THEIRS, "job_variables": workspace.fill(scenario.job_variables)}
    facts = {"name": f"{THEIRS} {scenario.title}", "entrypoint": scenario.entrypoint, "work_pool": pool}
    return {**facts, **scenario.deployed(workspace)}


def _differences(theirs: Outcome, ours: Outcome, scenario: Scenario) -> list[str]:
    """Describe what should be the same with both agents and is not."""
    parts = {"states", "message", "tasks", "subflows", "facts"} - scenario.differs
    found = [
        f"{part}:\n  theirs {getattr(theirs, part)}\n  ours   {getattr(ours, part)}"
        for part in sorted(parts)
        if getattr(theirs, part) != getattr(ours, part)
    ]
    if "lines" not in scenario.differs:
        missing = Counter(theirs.lines) - Counter(ours.lines)
        found += [f"only theirs: {line}" for line in missing]
        found += [f"only ours: {line}" for line in Counter(ours.lines) - Counter(theirs.lines)] if missing else []
        shared = [line for line in ours.lines if line in theirs.lines]
        if scenario.ordered and not missing and shared != theirs.lines:
            found.append(f"order:\n  theirs {theirs.lines}\n  ours   {shared}")
    return found


EACH_SCENARIO = pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(scenario, id=scenario.title.replace(" ", "-"), marks=[] if scenario.core else [pytest.mark.full])
        for scenario in SCENARIOS
    ],
)


@EACH_SCENARIO
def test_a_deployment_comes_out_of_flowherd_as_out_of_prefects_process_worker(runs: Runs, scenario: Scenario) -> None:
    """States, last message, task runs, subflows, the run's facts, and each line of log; flowherd's may have more."""
    ids = [runs.run_id(agent, scenario) for agent in BOTH]
    assert len(set(ids)) == 2

    def differences() -> list[str]:
        return _differences(runs.outcome(THEIRS, scenario), runs.outcome(OURS, scenario), scenario)

    wait_until(lambda: not differences(), timeout_s=_SETTLED_S, what=lambda: "\n".join(differences()), every_s=1)
    ours = runs.outcome(OURS, scenario)
    assert ours.states[-1][0] == scenario.ends, ours


@EACH_SCENARIO
def test_a_result_is_read_by_prefects_client_as_the_one_of_its_process_worker(runs: Runs, scenario: Scenario) -> None:
    theirs, ours = (plain(runs.result(agent, scenario)) for agent in BOTH)
    assert ours == theirs or "message" in scenario.differs
