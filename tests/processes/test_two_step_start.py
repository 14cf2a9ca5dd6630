"""A run is handed to a runner before its claim: no matter what dies or loses then, it is started once or not at all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.errors import ClaimLost
from flowherd.host.processes.fork_server import ForkServer
from flowherd.host.store.state_directory import StateDirectory
from flowherd.states import RunState
from flowherd.values import FlowRun, Runtime, claim_token
from flowherd_runner.contract import identity
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")


#: An agent that has prepared a run and never gets an answer to its claim.
PREPARE = """
import sys, time
from flowherd import LocalAgent
from flowherd.testing import MemoryBackend, make_flow_run
from flowherd.values import Runtime, claim_token
host = LocalAgent(backend=MemoryBackend(), hostname_label=False)._own_host
host.open()
host._surroundings.fork_servers.get(Runtime()).wait_ready()
run = make_flow_run({"type": "Command", "argv": sys.argv[2:]})
run.id = sys.argv[1]
host.prepare(run, claim_token(host.identity, run.id))
print("prepared", flush=True)
time.sleep(100)
"""


class HeldClaims(MemoryBackend):
    """A backend that answers a claim when it is told to, and may give the run to another agent."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Semaphore(0)
        self.answered = threading.Semaphore(0)
        self.lost = False

    def claim(self, flow_run: FlowRun, token: str) -> None:
        self.asked.release()
        assert self.answered.acquire(timeout=20)
        if self.lost:
            raise ClaimLost("another agent has it")
        super().claim(flow_run, token)


@pytest.fixture
def backend() -> Iterator[HeldClaims]:
    found = HeldClaims()
    yield found
    for _ in range(100):  # nothing waits for an answer after the test
        found.answered.release()


@pytest.fixture
def agent(clean_environment: Path, backend: HeldClaims) -> Iterator[LocalAgent]:
    with going(LocalAgent(backend=backend, hostname_label=False)) as agent:
        server(agent).wait_ready()
        yield agent


def server(agent: LocalAgent) -> ForkServer:
    agent._own_host.open()
    return agent._own_host._surroundings.fork_servers.get(Runtime())


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def waiting_runner(home: Path, run_id: str) -> int:
    """Return the pid of the runner that has prepared the run and waits for its claim."""
    directory = home / "agents" / "agent" / "runs" / run_id

    def found() -> int | None:
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        holders = [pid for pid in pids if _has_open(pid, directory)]
        return holders[0] if len(holders) == 1 and children(holders[0]) and (directory / "work").exists() else None

    pid = wait_until(found)
    assert not (directory / "started").exists()
    return pid


def _has_open(pid: int, directory: Path) -> bool:
    try:
        links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return pid != os.getpid() and str(directory / "journal") in links


def add(backend: MemoryBackend, count: Path) -> str:
    return backend.add_run({"type": "Command", "argv": ["sh", "-c", f"echo >> {count}"]})


def times(count: Path) -> int:
    return len(count.read_text().splitlines()) if count.exists() else 0


def test_the_runner_is_prepared_while_the_claim_is_under_way(
    agent: LocalAgent, backend: HeldClaims, clean_environment: Path, tmp_path: Path
) -> None:
    spare = wait_until(lambda: server(agent).spares)[0]
    run_id = add(backend, tmp_path / "count")
    assert backend.asked.acquire(timeout=20)
    assert waiting_runner(clean_environment, run_id) == spare
    assert times(tmp_path / "count") == 0
    backend.answered.release()
    assert wait_for_end(backend, run_id) is RunState.SUCCESS
    assert times(tmp_path / "count") == 1


def test_a_lost_claim_ends_the_runner_and_leaves_no_directory(
    agent: LocalAgent, backend: HeldClaims, clean_environment: Path, tmp_path: Path
) -> None:
    run_id = add(backend, tmp_path / "count")
    assert backend.asked.acquire(timeout=20)
    runner = waiting_runner(clean_environment, run_id)
    processes = [(pid, identity.process_status(pid)) for pid in (runner, *children(runner))]
    backend.lost = True
    backend.answered.release()
    directory = clean_environment / "agents" / "agent" / "runs" / run_id
    wait_until(lambda: not directory.exists())
    for pid, status in processes:
        assert status is not None and not identity.is_alive(pid, status[1])
    assert times(tmp_path / "count") == 0


@pytest.mark.parametrize("victim", ["runner", "fork server", "both", "flow process"])
def test_what_dies_before_the_claim_is_won_costs_nothing(
    agent: LocalAgent, backend: HeldClaims, clean_environment: Path, tmp_path: Path, victim: str
) -> None:
    run_id = add(backend, tmp_path / "count")
    assert backend.asked.acquire(timeout=20)
    runner = waiting_runner(clean_environment, run_id)
    if victim == "flow process":  # its runner lives on, and records the end of the run that it had begun to start
        os.kill(children(runner)[0], signal.SIGKILL)
    if victim in ("fork server", "both"):
        os.kill(server(agent).pid, signal.SIGKILL)
    if victim in ("runner", "both"):
        os.kill(runner, signal.SIGKILL)
        status = identity.process_status(runner)
        wait_until(lambda: status is None or not identity.is_alive(runner, status[1]))
    backend.answered.release()
    end = wait_for_end(backend, run_id)
    if victim == "flow process":
        assert end is RunState.FAILED and "SIGKILL" in backend.message(run_id)
        return
    assert end is RunState.SUCCESS
    assert times(tmp_path / "count") == 1


def test_a_run_whose_agent_is_killed_before_go_is_started_by_the_next_one(
    clean_environment: Path, tmp_path: Path
) -> None:
    backend = MemoryBackend()
    run_id = add(backend, tmp_path / "count")
    (flow_run,) = backend.ready_runs((), ())
    command = [sys.executable, "-c", PREPARE, run_id, *flow_run.flow.storage["argv"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "prepared\n"
        runner = waiting_runner(clean_environment, run_id)
        ticks = identity.process_status(runner)
        process.kill()
    assert ticks is not None
    state = StateDirectory(clean_environment / "agents" / "agent")
    backend.claim(flow_run, claim_token(state.identity, run_id))
    state.close()
    with going(LocalAgent(backend=backend, hostname_label=False)):  # at once, perhaps before the runner has ended
        assert wait_for_end(backend, run_id) is RunState.SUCCESS
    assert not identity.is_alive(runner, ticks[1])
    assert times(tmp_path / "count") == 1


def test_kills_at_random_moments_start_no_run_twice_and_lose_none(
    agent: LocalAgent, backend: HeldClaims, clean_environment: Path, tmp_path: Path
) -> None:
    """Fork servers and spare runners die while runs are handed over and told to go on."""
    seed = random.randrange(10**6)
    print("seed", seed)  # shown when the test fails
    dice = random.Random(seed)
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(dice.uniform(0.0, 0.12)):
            victim = server(agent)
            pids = [victim.pid] if dice.random() < 0.3 else list(victim.spares)
            for pid in pids:
                with_no_run_yet(pid)

    def with_no_run_yet(pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        runs = {}
        for number in range(25):
            backend.answered.release()
            count = tmp_path / str(number)
            runs[add(backend, count)] = count
            ended.wait(dice.uniform(0.0, 0.06))
        ends = {run_id: wait_for_end(backend, run_id) for run_id in runs}
    finally:
        ended.set()
        killer.join()
    for run_id, count in runs.items():
        # A spare that got its run the moment it was killed takes the run with it: it is reported, and not repeated.
        assert (ends[run_id], times(count)) == (RunState.SUCCESS, 1) or (
            ends[run_id] is RunState.FAILED and times(count) <= 1
        ), f"seed {seed}: {backend.message(run_id)}"
    assert sum(end is RunState.SUCCESS for end in ends.values()) > 10, f"seed {seed}: {ends}"


def test_an_agent_that_loses_its_claims_prepares_no_more_ahead(
    agent: LocalAgent, backend: HeldClaims, clean_environment: Path, tmp_path: Path
) -> None:
    backend.lost = True
    for _ in range(8):
        backend.answered.release()
    run_id = add(backend, tmp_path / "count")  # it stays Scheduled, so each poll claims it again
    for _ in range(8):
        assert backend.asked.acquire(timeout=20)
    wait_until(lambda: server(agent).spares)
    backend.lost = False
    assert backend.asked.acquire(timeout=20)
    spare = server(agent).spares[0]
    assert children(server(agent).pid) == [spare], "no runner waits for the claim"
    backend.answered.release()
    assert wait_for_end(backend, run_id) is RunState.SUCCESS


@pytest.mark.parametrize("number", ["0", "2"])
def test_the_number_of_spares_is_a_setting(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    monkeypatch.setenv("FLOWHERD__AGENT__SPARE_RUNNERS", number)
    backend = MemoryBackend()
    with going(LocalAgent(backend=backend, hostname_label=False)) as agent:
        assert wait_for_end(backend, backend.add_run({"type": "Command", "argv": ["true"]})) is RunState.SUCCESS
        wait_until(lambda: len(server(agent).spares) == int(number))
        assert len(agent.processes) <= 1
