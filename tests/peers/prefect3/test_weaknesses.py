"""Where Prefect's process worker loses a run, a process or a cause, and flowherd does not: each shown by a run.

What the worker does is shown too with --full: it is of one version, so it does not change with flowherd.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.faults.proxy import Proxy
from tests.peers.agent_processes import OURS, THEIRS, AgentProcess
from tests.peers.compared_runs import RUN_S
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.peers.prefect3.workspace import Prefect3Run, Workspace, flowherd_agent, process_worker
from tests.support.leftovers import none_left
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

_FLOWS = ("chattering", "silent", "leaving", "deaf", "segfaulting", "speaking_plainly", "filling", "asking")
EACH_AGENT = pytest.mark.parametrize("name", [OURS, pytest.param(THEIRS, marks=pytest.mark.full)])
_START: dict[str, Callable[..., AbstractContextManager[AgentProcess]]] = {THEIRS: process_worker, OURS: flowherd_agent}
_numbers = itertools.count(1)


class WeakPoints:
    """The deployments of programs/weak, and agents that run them."""

    def __init__(self, workspace: Workspace, deployments: dict[str, str]) -> None:
        self._workspace = workspace
        self._deployments = deployments

    @property
    def prefect(self) -> PrefectServer:
        return self._workspace.prefect

    def agent(self, name: str, api: str = "", **more: str) -> AbstractContextManager[AgentProcess]:
        """Return a context in which this agent runs."""
        return _START[name](self._workspace, api, **more)

    def run(self, agent: AgentProcess, flow: str, **parameters: Any) -> Prefect3Run:
        deployment = self._deployments[f"{agent.name} {flow}"]
        run_id = self.prefect.add_run(deployment, parameters=parameters, name=f"{flow} {next(_numbers)}")
        return Prefect3Run(agent, run_id, self.prefect)

    def lines(self, run: Prefect3Run) -> list[tuple[str, str]]:
        """Return logger and message of each line of the run's log."""
        return [(row["name"], row["message"]) for row in self.prefect.log(run.run_id)]


@pytest.fixture(scope="module")
def weak(prefect: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeakPoints]:
    workspace = Workspace(tmp_path_factory.mktemp("weak"), prefect, pools=("their-weak", "our-weak"))
    workspace.prepare("weak")
    pool = {"name": workspace.pool(THEIRS)}
    deployments = [{"name": f"{THEIRS} {flow}", "entrypoint": f"weak.py:{flow}", "work_pool": pool} for flow in _FLOWS]
    yield WeakPoints(workspace, workspace.deploy(deployments))


@pytest.fixture(scope="module")
def agents(request: pytest.FixtureRequest, weak: WeakPoints) -> Iterator[dict[str, AgentProcess]]:
    """Flowherd's agent, and the worker too with --full, for tests that leave them alive."""
    limits = {"FLOWHERD__AGENT__GRACE": "1.5", "FLOWHERD__RUNS__LIMITS__MEMORY_BYTES": str(400 << 20)}
    with none_left(), ExitStack() as stack:
        agents = {OURS: stack.enter_context(weak.agent(OURS, **limits))}
        if request.config.getoption("--full"):
            agents[THEIRS] = stack.enter_context(weak.agent(THEIRS))
        yield agents


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# -- the agent dies; these tests come first, before other agents take runs of the same pools


@EACH_AGENT
def test_a_run_that_prints_goes_on_when_its_agent_is_killed_and_ends_as_it_would_have(
    weak: WeakPoints, tmp_path: Path, name: str
) -> None:
    """The worker's run prints into a pipe to the worker, and dies of that."""
    file = tmp_path / "there"
    with weak.agent(name) as first:
        run = weak.run(first, "chattering", file=str(file))
        run.wait_for_line("still here")
        first.process.kill()
        first.process.wait()
        if name == THEIRS:
            run.wait_for_state("CRASHED")
            return
        with weak.agent(name):
            file.touch()
            run.wait_for_state("COMPLETED")
            run.wait_for_line("it is there")


@EACH_AGENT
def test_a_run_that_died_while_its_agent_was_dead_is_told_by_the_next_one(
    weak: WeakPoints, tmp_path: Path, name: str
) -> None:
    """The worker's stays Running: the next worker completes another run and does not look at this one."""
    with weak.agent(name) as first:
        run = weak.run(first, "silent", file=str(tmp_path / "never"))
        run.wait_for_line("waiting")
        pid = weak.prefect.pid(run.run_id)
        first.process.kill()
        first.process.wait()
    os.kill(pid, signal.SIGKILL)
    with weak.agent(name) as second:
        other = weak.run(second, "speaking_plainly")
        other.wait_for_end()
        if name == THEIRS:
            assert weak.prefect.state(run.run_id) == "RUNNING"
            return
        run.wait_for_state("CRASHED")
        assert "SIGKILL" in weak.prefect.run(run.run_id)["state"]["message"]


@EACH_AGENT
def test_a_run_outlives_the_ordinary_stop_of_its_agent(weak: WeakPoints, tmp_path: Path, name: str) -> None:
    """At a SIGTERM the worker kills its runs without grace, and leaves them Running at the server."""
    file = tmp_path / "there"
    with weak.agent(name) as first:
        run = weak.run(first, "silent", file=str(file))
        run.wait_for_line("waiting")
        pid = weak.prefect.pid(run.run_id)
        first.process.terminate()
        first.process.wait(30)
        if name == THEIRS:
            wait_until(lambda: not _alive(pid), what=run.story)
            assert weak.prefect.state(run.run_id) == "RUNNING", run.story()
            return
        assert _alive(pid)
    with weak.agent(name):
        file.touch()
        run.wait_for_state("COMPLETED")
        run.wait_for_line("it is there")


@EACH_AGENT
def test_an_agent_that_inherited_an_ignored_interrupt_stops_at_a_termination(weak: WeakPoints, name: str) -> None:
    """Background jobs of scripts inherit that. The worker sends itself a SIGINT instead, and takes further runs."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with weak.agent(name) as agent:
            signal.signal(signal.SIGINT, before)
            agent.process.terminate()
            if name == OURS:
                assert agent.process.wait(30) == 0, agent.text()
                return
            other = weak.run(agent, "speaking_plainly")
            other.wait_for_state("COMPLETED")
            assert agent.process.poll() is None
            agent.process.kill()
            agent.process.wait()
    finally:
        signal.signal(signal.SIGINT, before)


class _LabelsFail(Proxy):
    """Answer 500 to each request for a run's labels, and pass all others on."""

    async def _pass_on(
        self,
        request: bytes,
        reader: asyncio.StreamReader,
        answers: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> bool:
        if b"/labels " not in request.partition(b"\r\n")[0]:
            return await super()._pass_on(request, reader, answers, upstream, writer)
        self.injected["labels"] += 1
        writer.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        return False


@EACH_AGENT
def test_a_request_for_show_that_fails_fails_no_run(weak: WeakPoints, name: str) -> None:
    """The worker makes a claimed run Crashed when it cannot set its labels."""
    proxy = _LabelsFail(lambda: weak.prefect.port, seed=5)
    try:
        with weak.agent(name, api=f"http://127.0.0.1:{proxy.port}/api") as agent:
            run = weak.run(agent, "speaking_plainly")
            run.wait_for_state("COMPLETED" if name == OURS else "CRASHED")
            wait_until(lambda: proxy.injected["labels"], what=run.story)
    finally:
        proxy.close()


# -- causes and output


def test_a_segmentation_fault_is_told_by_its_name(weak: WeakPoints, agents: dict[str, AgentProcess]) -> None:
    runs = {name: weak.run(agent, "segfaulting") for name, agent in agents.items()}
    messages = {}
    for name, run in runs.items():
        run.wait_for_end()
        state = weak.prefect.run(run.run_id)["state"]
        assert state["type"] == "CRASHED", run.story()
        messages[name] = state["message"]
    assert "SIGSEGV" in messages[OURS], messages
    if THEIRS in messages:
        assert "-11" in messages[THEIRS] and "SIGSEGV" not in messages[THEIRS], messages
    assert any(message == "last words" for _, message in weak.lines(runs[OURS])), runs[OURS].story()


def test_raw_output_and_that_of_programs_is_in_the_runs_log(weak: WeakPoints, agents: dict[str, AgentProcess]) -> None:
    raw = {"written", "of the descriptor", "of a program"}
    runs = {name: weak.run(agent, "speaking_plainly") for name, agent in agents.items()}
    for run in runs.values():
        run.wait_for_end()
    if THEIRS in runs:
        assert raw & {message for _, message in weak.lines(runs[THEIRS])} == set()
    found = {message: logger for logger, message in weak.lines(runs[OURS]) if message in raw}
    assert found == {
        "written": "flowherd.stdout",
        "of the descriptor": "flowherd.stderr",
        "of a program": "flowherd.stdout",
    }


def test_a_flow_that_reads_its_input_finds_its_end(weak: WeakPoints, agents: dict[str, AgentProcess]) -> None:
    """The worker's runs have a pipe as input that it never closes; a flow that reads it waits for ever."""
    runs = {name: weak.run(agent, "asking") for name, agent in agents.items()}
    for run in runs.values():
        run.wait_for_end()
    messages = {name: [message for _, message in weak.lines(run)] for name, run in runs.items()}
    assert "end of input" in messages[OURS], messages
    if THEIRS in messages:
        assert "input is pipe" in messages[THEIRS], messages


def test_a_run_that_takes_more_memory_than_allowed_is_ended_with_that_cause(
    weak: WeakPoints, agents: dict[str, AgentProcess]
) -> None:
    """The worker has no such limit."""
    run = weak.run(agents[OURS], "filling", mebibytes=600)
    run.wait_for_end()
    state = weak.prefect.run(run.run_id)["state"]
    assert state["type"] == "CRASHED" and "Memory limit exceeded" in state["message"], run.story()


# -- processes that stay


@pytest.mark.parametrize("waits", [False, True], ids=["after its end", "after a cancellation"])
def test_a_process_in_a_session_of_its_own_does_not_outlive_the_run(
    weak: WeakPoints, agents: dict[str, AgentProcess], tmp_path: Path, waits: bool
) -> None:
    files = {name: tmp_path / name for name in agents}
    runs = {name: weak.run(agent, "leaving", file=str(files[name]), waits=waits) for name, agent in agents.items()}
    for run in runs.values():
        if waits:
            run.wait_for_line("left")
            weak.prefect.set_state(run.run_id, "CANCELLING", name="Cancelling")
        run.wait_for_state("CANCELLED" if waits else "COMPLETED")
    runs[OURS].wait_for_rest()
    left = {name: int(file.read_text()) for name, file in files.items()}
    assert not _alive(left[OURS])
    if THEIRS in left:
        wait_until(lambda: not _engine_alive(runs[THEIRS]), timeout_s=RUN_S, what=runs[THEIRS].story)
        assert _alive(left[THEIRS])
        os.kill(left[THEIRS], signal.SIGKILL)


def _engine_alive(run: Prefect3Run) -> bool:
    pid = run.prefect.run(run.run_id)["infrastructure_pid"]
    return bool(pid) and _alive(int(pid))


@EACH_AGENT
def test_a_cancelled_run_that_goes_on_is_killed_when_the_configured_grace_is_over(
    weak: WeakPoints, agents: dict[str, AgentProcess], name: str
) -> None:
    """After 1.5 seconds here; the worker's 30 cannot be changed."""
    run = weak.run(agents[name], "deaf")
    run.wait_for_line("hears nothing")
    weak.prefect.set_state(run.run_id, "CANCELLING", name="Cancelling")
    wait_until(
        lambda: weak.prefect.state(run.run_id) != "CANCELLING", timeout_s=20 if name == OURS else 90, what=run.story
    )
    types = [row["type"] for row in _states(weak.prefect, run.run_id)]
    assert types[-2:] == ["CANCELLING", "CANCELLED"], run.story()
    first, last = (row["timestamp"] for row in _states(weak.prefect, run.run_id)[-2:])
    shortest_s, longest_s = (29, 60) if name == THEIRS else (1.4, 20)
    assert shortest_s < _seconds(first, last) < longest_s, run.story()


def _states(prefect: PrefectServer, run_id: str) -> list[dict[str, Any]]:
    rows = prefect.ask("GET", f"/flow_run_states/?flow_run_id={run_id}")
    return sorted(rows, key=lambda row: str(row["timestamp"]))


def _seconds(first: str, last: str) -> float:
    begun, ended = (datetime.fromisoformat(text) for text in (first, last))
    return (ended - begun).total_seconds()
