"""The same deployments, made by Prefect's own command, through its process worker and through flowherd."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.peers.prefect3.outcomes import Outcome, outcome, plain
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.peers.prefect3.scenarios import SCENARIOS, Scenario
from tests.peers.prefect3.workspace import ALL, BOTH, OURS, RUN_S, THEIRS, Handle, Place, Taker, flowherd, real_worker
from tests.support.leftovers import none_left
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CHOSEN = [scenario for scenario in SCENARIOS if scenario.core or ALL]
_AT_ONCE = 3
#: How long the server may take to store what it has been told: task runs come to it as events.
_SETTLED_S = 20.0
#: What becomes of files that are deployed as good ones.
_BREAKING = {
    "syntax": "def main(:\n",
    "missing": "import there_is_no_such_module\n",
    "absent": "other = 1\n",
    "importing": "raise ValueError('at import')\n",
    "exiting": "import sys\nsys.exit(9)\n",
    "nothing": "main = 3\n",
}


class Runs:
    """The chosen scenarios on their way, through both at once."""

    def __init__(self, place: Place, takers: list[Taker], deployments: dict[str, str], chosen: list[Scenario]) -> None:
        self._place = place
        self._deployments = deployments
        self._pools = [ThreadPoolExecutor(_AT_ONCE) for _ in takers]
        self._results: dict[str, dict[str, str]] = {}
        self._futures: dict[tuple[str, str], Future[str]] = {
            (taker.who, scenario.title): pool.submit(self._through, taker, scenario)
            for taker, pool in zip(takers, self._pools, strict=True)
            for scenario in chosen
        }

    def _through(self, taker: Taker, scenario: Scenario) -> str:
        facts = {"name": scenario.title, "parameters": scenario.parameters, **scenario.given}
        deployment = self._deployments[f"{taker.who} {scenario.title}"]
        filled = self._place.fill(facts, taker.who)
        while True:
            handle = Handle(self._place.prefect, taker, self._place.prefect.add_run(deployment, **filled))
            scenario.act(handle)
            handle.wait_for_end()
            if not self._lost_at_the_start(handle.run_id):
                return handle.run_id

    def _lost_at_the_start(self, run_id: str) -> bool:
        """Whether the worker has made a crash of its server's having been busy, before it started anything."""
        message = self._place.prefect.run(run_id)["state"]["message"] or ""
        return message.startswith("Failed to submit flow run to infrastructure") and " 503 " in message

    def run_id(self, who: str, scenario: Scenario) -> str:
        """Once it has ended."""
        return self._futures[who, scenario.title].result(4 * RUN_S if not ALL else 1200)

    def outcome(self, who: str, scenario: Scenario) -> Outcome:
        return outcome(self._place.prefect, self.run_id(who, scenario))

    def result(self, who: str, scenario: Scenario) -> str:
        """As the real client reads it; all at once, when all have ended."""
        if who not in self._results:
            futures = [future for (of, _), future in self._futures.items() if of == who]
            done = wait_for(futures, 1200).done
            ended = [future.result() for future in done if future.exception() is None]
            self._results[who] = self._place.results(who, ended)
        return self._results[who][self.run_id(who, scenario)]

    def close(self) -> None:
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, prefect: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    place = Place(tmp_path_factory.mktemp("compared"), prefect)
    place.prepare()
    place.keep_values()
    chosen = _wanted(request.session.items)
    inner = Scenario(title="inner", entrypoint="subflows.py:inner")
    deployments = place.deploy([_deployment(place, scenario) for scenario in [*chosen, inner]])
    for how, text in _BREAKING.items():
        (place.flows / f"broken_{how}.py").write_text(text)
    shutil.rmtree(place.flows / "__pycache__", ignore_errors=True)
    with none_left(), ExitStack() as stack:
        takers = [stack.enter_context(start(place)) for start in (real_worker, flowherd)]
        going = Runs(place, takers, deployments, chosen)
        stack.callback(going.close)
        yield going


def _wanted(items: list[pytest.Item]) -> list[Scenario]:
    """Those that the selected tests look at."""
    titles = {item.callspec.params["scenario"].title for item in items if item.path == Path(__file__)}
    return [scenario for scenario in CHOSEN if scenario.title in titles]


def _deployment(place: Place, scenario: Scenario) -> dict[str, Any]:
    pool = {"name": THEIRS, "job_variables": place.fill(scenario.job_variables)}
    facts = {"name": f"{THEIRS} {scenario.title}", "entrypoint": scenario.entrypoint, "work_pool": pool}
    return {**facts, **scenario.deployed(place)}


def _each(scenario: Scenario) -> Any:
    return pytest.param(scenario, id=scenario.title.replace(" ", "-"))


def _differences(theirs: Outcome, ours: Outcome, scenario: Scenario) -> list[str]:
    """What is not the same in both, but should be."""
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


@pytest.mark.parametrize("scenario", [_each(scenario) for scenario in CHOSEN])
def test_a_deployment_comes_out_of_flowherd_as_out_of_prefects_process_worker(runs: Runs, scenario: Scenario) -> None:
    """States, last message, task runs, subflows, the run's facts, and each line of log; flowherd's may have more."""
    ids = [runs.run_id(who, scenario) for who in BOTH]
    assert len(set(ids)) == 2

    def differences() -> list[str]:
        return _differences(runs.outcome(THEIRS, scenario), runs.outcome(OURS, scenario), scenario)

    wait_until(lambda: not differences(), timeout_s=_SETTLED_S, what=lambda: "\n".join(differences()), every_s=1)
    ours = runs.outcome(OURS, scenario)
    assert ours.states[-1][0] == scenario.ends, ours
    for text in scenario.says:
        assert any(text in line.text for line in ours.lines), f"{text!r} in\n{ours}"


@pytest.mark.parametrize("scenario", [_each(scenario) for scenario in CHOSEN])
def test_a_result_is_read_by_prefects_client_as_the_one_of_its_process_worker(runs: Runs, scenario: Scenario) -> None:
    theirs, ours = (plain(runs.result(who, scenario)) for who in BOTH)
    assert ours == theirs or "message" in scenario.differs
