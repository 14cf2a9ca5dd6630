"""Agents that are compared with each other, as real processes: Prefect's own and flowherd's."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.support.leftovers import carriers
from tests.support.programs import Program
from tests.support.waiting import wait_until

#: Names of the two, which are also their labels or part of their pools' names.
THEIRS, OURS = BOTH = ("theirs", "ours")
_START_S = 90.0
_STOP_S = 30.0


@dataclass(frozen=True, kw_only=True)
class AgentProcess:
    """An agent that takes runs."""

    #: THEIRS or OURS.
    name: str
    process: Program
    output: Path
    #: Whether a process of this run exists, or part of its log has yet to be sent.
    still_has: Callable[[str], bool]
    #: Address of the agent's HTTP API, where it has one.
    address: str = ""

    def poke(self) -> None:
        """Have it look for runs now; a pause between its polls can be ten seconds long."""
        requests.get(f"{self.address}/api/poke", timeout=10)

    def text(self) -> str:
        return self.output.read_text(errors="replace")


def has_run_directory(directory: Path) -> Callable[[str], bool]:
    """Return `still_has` of flowherd, which removes a run's directory when the log and the end are delivered."""
    return lambda run_id: (directory / run_id).exists()


def has_processes(variable: str) -> Callable[[str], bool]:
    """Return `still_has` of an agent that names the run in a variable of its process."""
    return lambda run_id: bool(carriers(run_id, variable))


@contextmanager
def running_agent(
    name: str,
    command: Sequence[str],
    env: Mapping[str, str],
    directory: Path,
    output: Path,
    *,
    ready: str,
    still_has: Callable[[str], bool],
    address: str = "",
) -> Iterator[AgentProcess]:
    """Start an agent, wait until it prints `ready`, and stop it at the end of the block if it still runs.

    It is stopped by SIGINT, as by a person: no LocalAgent of Prefect handles SIGTERM.
    """
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, env=env, cwd=directory, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
    agent = AgentProcess(name=name, process=process, output=output, still_has=still_has, address=address)
    try:
        wait_until(lambda: ready in agent.text() or process.poll() is not None, timeout_s=_START_S, what=agent.text)
        assert process.poll() is None, agent.text()
        yield agent
    finally:
        _stop(agent)


def _stop(agent: AgentProcess) -> None:
    if agent.process.poll() is None:
        agent.process.send_signal(signal.SIGINT)
    try:
        agent.process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        agent.process.kill()
        agent.process.wait()
        raise AssertionError(f"the agent did not stop:\n{agent.text()}") from None
