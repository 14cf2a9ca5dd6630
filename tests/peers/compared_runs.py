"""The same scenarios run through two agents at once; tests look at the results in any order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import pytest

from tests.peers.agent_processes import AgentProcess
from tests.support.waiting import wait_until

#: How long one run may take, seconds: many go at once on a busy machine, and Prefect's agents need seconds for each.
RUN_S = 180.0
#: Pause between two questions to a server, seconds: they must not slow down the runs that they wait for.
_ASK_EVERY_S = 0.2
#: Runs of one agent at a time: enough that they overlap, and few enough for two processors.
_AT_ONCE = 3


class Named(Protocol):
    """A scenario, as far as it is known here."""

    @property
    def title(self) -> str: ...


ScenarioT = TypeVar("ScenarioT", bound=Named)
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class RunInProgress(ABC):
    """One run of an agent, for what a person does meanwhile."""

    agent: AgentProcess
    run_id: str

    @abstractmethod
    def story(self) -> str:
        """Describe the run for the message of a failed test."""

    def wait(self, condition: Callable[[], object]) -> None:
        wait_until(condition, timeout_s=RUN_S, what=self.story, every_s=_ASK_EVERY_S)

    def wait_for_rest(self) -> None:
        """Wait until no process of the run exists, and nothing of its log has yet to be sent."""
        self.wait(lambda: not self.agent.still_has(self.run_id))


class ComparedRuns(Generic[ScenarioT, ResultT]):
    """Runs of each scenario by each agent, started in the order of the scenarios."""

    def __init__(
        self,
        agents: Iterable[AgentProcess],
        scenarios: Callable[[AgentProcess], Iterable[ScenarioT]],
        run: Callable[[AgentProcess, ScenarioT], ResultT],
    ) -> None:
        self._pools: list[ThreadPoolExecutor] = []
        self._futures: dict[tuple[str, str], Future[ResultT]] = {}
        for agent in agents:
            self._pools.append(ThreadPoolExecutor(_AT_ONCE))
            for scenario in scenarios(agent):
                self._futures[agent.name, scenario.title] = self._pools[-1].submit(run, agent, scenario)

    def result(self, agent: str, title: str) -> ResultT:
        """Wait for the end of a run and return what `run` has returned for it."""
        return self._futures[agent, title].result(4 * RUN_S)

    def results(self, agent: str) -> list[ResultT]:
        """Wait for the ends of all runs of an agent and return the results of those that did not fail."""
        futures = [future for (name, _), future in self._futures.items() if name == agent]
        return [future.result() for future in wait(futures, 8 * RUN_S).done if future.exception() is None]

    def close(self) -> None:
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)


def selected_scenarios(items: Sequence[pytest.Item], file: str) -> list[Any]:
    """Return the values of the parameter `scenario` of the selected tests of a file, each once."""
    found: dict[str, Any] = {}
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and item.path == Path(file) and "scenario" in callspec.params:
            scenario = callspec.params["scenario"]
            found.setdefault(scenario.title, scenario)
    return list(found.values())
