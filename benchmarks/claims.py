"""Claims a second with several agents that share labels, and what waiting agents cost the server.

    python benchmarks/claims.py [--runs 400] [--clients 1 2 4 8] [--waiting 1 100] [--single 100]

    claims      so many runs are due; each client is a process with a real Agent, whose platform does nothing, that
                asks for runs and claims what it gets until none is left. Claims a second, share of lost claims, and the
                server's CPU time a run.
    waiting     runs are created one after the other, each once the one before it is claimed, while so many agents wait
                for news; the server's CPU time a run (creation, news, question and claim), less what it spends idle

    lane        offers and claims over the server's lane, which pushes what it offers
    together    the same over HTTP
    one by one  what agents of release 0.1.0 and Prefect's do: the whole queue, and a request a claim

The ways meet the same server, in turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import psutil
from loguru import logger

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.dialect import Client
from tests.support.server import ServerProcess, running_server
from tests.support.waiting import wait_until

from flowherd.agent.agent import Agent
from flowherd.agent.worker_threads import WorkerThreads
from flowherd.backends.graphql.lane_backend import LaneBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.protocol import ServerCapabilities
from flowherd.config import load_settings
from flowherd.errors import ClaimLost
from flowherd.values import AgentIdentity, Claim, FlowRun

SPAWN = multiprocessing.get_context("spawn")
IDLE_S = 5.0
LANE, TOGETHER, ONE_BY_ONE = WAYS = ("lane", "together", "one by one")


class Counting(LaneBackend):
    """Counts claims."""

    def __init__(self, url: str, way: str) -> None:
        super().__init__(GraphQLTransport(url), timeout_s=15)
        self.way = way
        self.lock = threading.Lock()
        self.won = self.lost = 0

    def connect(self) -> ServerCapabilities:
        capabilities = super().connect()
        self._shares = self.way != ONE_BY_ONE
        return dataclasses.replace(capabilities, shares=self._shares)

    def _introduction(self) -> Mapping[str, Any] | None:
        return super()._introduction() if self.way == LANE else None

    def claim(self, flow_run: FlowRun, token: str) -> None:
        try:
            super().claim(flow_run, token)
        except ClaimLost:
            self.count(0, 1)
            raise
        self.count(1, 0)

    def claim_many(self, claims: Sequence[Claim]) -> dict[str, str | None]:
        answers = super().claim_many(claims)
        won = sum(reason is None for reason in answers.values())
        self.count(won, len(answers) - won)
        return answers

    def count(self, won: int, lost: int) -> None:
        with self.lock:
            self.won += won
            self.lost += lost


class Elsewhere(Agent):
    """An agent whose flow runs go nowhere."""

    def deploy_flow(self, flow_run: FlowRun) -> str:
        return "nowhere"


def client(url: str, label: str, way: str, ready: Barrier, found: Queue[Any]) -> None:
    """Claim runs until none is left, in a process of its own."""
    logger.disable("")
    backend = Counting(url, way)
    agent = Elsewhere(name="bench", labels=[label], no_cloud_logs=True, settings=load_settings(), backend=backend)
    agent.agent_connect()
    executor = WorkerThreads(6, "deploy")
    ready.wait()
    empty = 0
    last_s = began_s = time.monotonic()
    while empty < 3:
        if agent.agent_process(executor):
            while not executor.is_idle():
                time.sleep(0.0005)
            last_s, empty = time.monotonic(), 0
        else:
            empty += 1
            time.sleep(0.1)  # what another agent was offered and did not claim would show now
    found.put((began_s, last_s, backend.won, backend.lost))


def cpu_s(server: ServerProcess) -> float:
    times = psutil.Process(server.pid).cpu_times()
    return float(times.user + times.system)


def claims(server: ServerProcess, runs: int, clients: int, way: str) -> float:
    """Measure, print a line, and return the claims a second."""
    user, label = Client(server), f"bench-{time.monotonic_ns()}"
    flow = user.flow()
    ids = [user.create_run(flow, labels=[label]) for _ in range(runs)]
    ready, found = SPAWN.Barrier(clients + 1), SPAWN.Queue()
    arguments = (server.url, label, way, ready, found)
    processes = [SPAWN.Process(target=client, args=arguments) for _ in range(clients)]
    for process in processes:
        process.start()
    ready.wait(120)
    before_s = cpu_s(server)
    answers = [found.get(timeout=300) for _ in processes]
    spent_s = cpu_s(server) - before_s
    for process in processes:
        process.join()
    took_s = max(answer[1] for answer in answers) - min(answer[0] for answer in answers)
    won, lost = sum(answer[2] for answer in answers), sum(answer[3] for answer in answers)
    assert won == runs == len(set(ids)), (won, runs)
    assert user.queue(label) == []
    print(
        f"{way:12} {clients:2} clients {won / took_s:8.0f} claims/s"
        f"   lost {100 * lost / (won + lost):5.1f} %   server {1000 * spent_s / runs:6.2f} ms CPU a run",
        flush=True,
    )
    return float(won / took_s)


class Waiting:
    """An agent in a thread of this process, which waits to be woken and claims what it finds."""

    def __init__(self, url: str, label: str, number: int, way: str, claimed: set[str]) -> None:
        self.backend = Counting(url, way)
        self.label, self.claimed, self.stopping = label, claimed, False
        self.backend.connect()
        self.backend.register(AgentIdentity(type="Bench", name=f"waiting-{number}", labels=(label,)))
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        seen = 0
        while not self.stopping:
            wake = self.backend.wait_for_wake(seen, 20)
            if wake.sequence != seen and not self.stopping:
                seen = wake.sequence
                self.take(list(wake.offered or ()))

    def take(self, runs: list[FlowRun]) -> None:
        if self.backend.way != ONE_BY_ONE:
            runs = runs or self.backend.offered_runs([self.label], (), None)
            if runs:
                self.backend.claim_many([Claim(flow_run=run, token=f"{id(self)}/{run.id}") for run in runs])
        else:
            runs = self.backend.ready_runs([self.label], ())
            for run in runs:
                try:
                    self.backend.claim(run, f"{id(self)}/{run.id}")
                except ClaimLost:
                    continue
        self.claimed.update(run.id for run in runs)


def waiting(server: ServerProcess, agents: int, runs: int, way: str) -> float:
    user, label, claimed = Client(server), f"bench-{time.monotonic_ns()}", set[str]()
    flow = user.flow()
    waiters = [Waiting(server.url, label, number, way, claimed) for number in range(agents)]
    wait_until(lambda: user.ask("{ agent { labels connected } }"), what="the server")
    time.sleep(2)
    before_s = cpu_s(server)
    time.sleep(IDLE_S)
    idle = (cpu_s(server) - before_s) / IDLE_S
    before_s, began_s = cpu_s(server), time.monotonic()
    for _ in range(runs):
        run_id = user.create_run(flow, labels=[label])
        while run_id not in claimed:
            time.sleep(0.001)
    spent_s = cpu_s(server) - before_s - idle * (time.monotonic() - began_s)
    lost = sum(waiter.backend.lost for waiter in waiters)
    for waiter in waiters:
        waiter.stopping = True
    user.server.post("/poke")
    for waiter in waiters:
        waiter.thread.join(30)
    print(
        f"{way:12} {agents:3} agents wait   server {1000 * spent_s / runs:6.2f} ms"
        f" CPU a run   idle {100 * idle:5.2f} % of one CPU   {lost} claims lost",
        flush=True,
    )
    return spent_s / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400, help="runs that are due at once")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--waiting", type=int, nargs="*", default=[1, 100])
    parser.add_argument("--single", type=int, default=100, help="runs that are created one after the other")
    options = parser.parse_args()
    logger.disable("")
    with (
        tempfile.TemporaryDirectory(prefix="flowherd-benchmark-") as place,
        running_server(Path(place) / "d") as server,
    ):
        for clients in options.clients:
            for way in WAYS:
                claims(server, options.runs, clients, way)
        for way in WAYS:
            costs = [waiting(server, agents, options.single, way) for agents in options.waiting]
            if len(costs) > 1:
                print(f"{'':12} last / first: {costs[-1] / costs[0]:.2f}")
        print(json.dumps({"python": sys.version.split()[0], "cpus": psutil.cpu_count()}))


if __name__ == "__main__":
    main()
