"""Agents in this process, at the in-memory backend or any other, run by a thread and stopped at the end."""

from __future__ import annotations

from typing import Any

from flowherd.agent.agent import Agent
from flowherd.testing import running_agent as going
from flowherd.testing import wait_for_end
from flowherd.values import FlowRun

__all__ = ["COMMAND", "QUICK", "FailingAgent", "RecordingAgent", "going", "wait_for_end"]

#: The storage of a flow that does nothing.
COMMAND = {"type": "Command", "argv": ["true"]}

#: Pauses between polls, seconds: so short that no test waits for a poll.
QUICK = {0: 0.02, 1: 0.05, 2: 0.1}


class RecordingAgent(Agent):
    """Records the runs that it should deploy."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.deployed: list[str] = []

    def deploy_flow(self, flow_run: FlowRun) -> str:
        self.deployed.append(flow_run.id)
        return f"recorded {flow_run.flow.name}"


class FailingAgent(Agent):
    """Fails to deploy any run."""

    def deploy_flow(self, flow_run: FlowRun) -> str:
        raise RuntimeError("no room on the platform")
