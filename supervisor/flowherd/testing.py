"""For tests of an agent's subclass: an agent that runs in a thread, at a backend in memory, without a server.

    backend = MemoryBackend()
    run_id = backend.add_run({"type": "Command", "argv": ["true"]})
    with running_agent(MyAgent(backend=backend)):
        assert wait_for_end(backend, run_id) == "Success"

A `LocalAgent` keeps its runs in FLOWHERD_HOME: have a test set it to a directory of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from flowherd.agent.agent import Agent
from flowherd.backends.memory import MemoryBackend
from flowherd.states import FINISHED, RunState
from flowherd.values import FlowRun

__all__ = ["MemoryBackend", "make_flow_run", "running_agent", "wait_for_end"]

AnyAgent = TypeVar("AnyAgent", bound=Agent)

#: Pauses between polls, seconds: so short that no test waits for a poll.
_INTERVALS = {0: 0.02, 1: 0.05, 2: 0.1}
#: How long an agent may take to stop, seconds.
_STOP_S = 30.0
#: Time between two looks at a run's state, seconds.
_LOOK_S = 0.01


def make_flow_run(
    storage: Mapping[str, Any],
    *,
    parameters: Mapping[str, Any] | None = None,
    run_config: Mapping[str, Any] | None = None,
    labels: Collection[str] = (),
    name: str = "run",
) -> FlowRun:
    """Return a flow run that is due, for calling `deploy_flow` and other methods of an agent directly."""
    backend = MemoryBackend()
    backend.add_run(storage, parameters=parameters, run_config=run_config, labels=labels, name=name)
    return backend.ready_runs(list(labels), ())[0]


@contextmanager
def running_agent(agent: AnyAgent) -> Iterator[AnyAgent]:
    """Run the agent in a thread, with short pauses between its polls, until the end of the block; yield it.

    Raises what ended the agent early, and TimeoutError if it does not stop within 30 seconds.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            agent.start(_loop_intervals=_INTERVALS)
        except BaseException as error:  # raised in the caller's thread
            failures.append(error)

    thread = threading.Thread(target=run, name="agent-under-test", daemon=True)
    thread.start()
    try:
        yield agent
    finally:
        agent.stop()
        thread.join(_STOP_S)
        if thread.is_alive():
            raise TimeoutError(f"the agent {agent.name} did not stop within {_STOP_S:.0f} s")
        if failures:
            raise failures[0]


def wait_for_end(backend: MemoryBackend, run_id: str, timeout_s: float = 20.0) -> RunState:
    """Wait until a run of the backend is in a final state; return that state, which equals its name.

    Raises TimeoutError, which names the state and the log of the run.
    """
    deadline_s = time.monotonic() + timeout_s
    while (state := backend.state(run_id)) not in FINISHED:
        if time.monotonic() > deadline_s:
            so_far = f"it is {state}, and its log is {backend.log(run_id)}"
            raise TimeoutError(f"flow run {run_id} has not ended within {timeout_s} s: {so_far}")
        time.sleep(_LOOK_S)
    return state
