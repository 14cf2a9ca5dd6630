"""Agents in this process, at the in-memory backend or any other, run by a thread and stopped at the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from flowherd.agent.agent import Agent
from flowherd.backends.memory import MemoryBackend
from flowherd.states import FINISHED, RunState
from flowherd.values import FlowRun
from tests.support.waiting import wait_until

#: Pauses between polls, seconds: so short that no test waits for a poll.
QUICK = {0: 0.02, 1: 0.05, 2: 0.1}

AnyAgent = TypeVar("AnyAgent", bound=Agent)


class RecordingAgent(Agent):
    """Records the runs that it should deploy."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.deployed: list[str] = []

    def deploy_flow(self, flow_run: FlowRun) -> str:
        self.deployed.append(flow_run.id)
        return f"recorded {flow_run.flow.name}"


@contextmanager
def going(agent: AnyAgent) -> Iterator[AnyAgent]:
    """Run the agent in a thread until the end of the block; yield it."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            agent.start(_loop_intervals=QUICK)
        except BaseException as error:  # raised in the test's own thread
            failures.append(error)

    thread = threading.Thread(target=run, name="agent-under-test")
    thread.start()
    try:
        yield agent
    finally:
        agent.stop()
        thread.join(30)
        assert not thread.is_alive(), "the agent did not stop"
        if failures:
            raise failures[0]


def wait_for_end(backend: MemoryBackend, run_id: str, timeout_s: float = 20.0) -> RunState:
    """Wait until a run is in a final state; return that state."""
    wait_until(
        lambda: backend.state(run_id) in FINISHED,
        timeout_s=timeout_s,
        what=lambda: f"the run's end; it is {backend.state(run_id)}: {backend.log(run_id)}",
    )
    return backend.state(run_id)
