"""Time from the creation of a run of a Prefect 3 deployment to its first user line: flowherd and the process worker.

    python benchmarks/work_pools.py [--runs 9] [--burst 40] [--limit 4]

There is one real server, a work pool for each, and one flow with a pull step. Both serve at once and the runs take
turns, so other load on the machine affects both alike.

    default       the worker with its defaults (it polls every 10 s); runs are created at random moments
    fastest       the worker polls every 0.2 s, below which it does not get quicker
    floor         `python -m prefect.engine` by hand on a claimed run, without pull step: the cost of one import
    burst         many runs created at once with a limit: runs a second until the last one is Completed
    idle          CPU of both, in parts of one core, while there is nothing to do

The time of a run's creation is the server's; that of the first user line is written down by the flow.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import Figure
from tests.peers.environments import PREFECT_3, installation
from tests.peers.prefect3.prefect_server import PrefectServer, running_prefect
from tests.support.commands import READY, CommandLine, background
from tests.support.processes import give_children_default_signals
from tests.support.waiting import wait_until

OURS, THEIRS = "flowherd", "worker"
#: Longer than the worker's pause between polls by default, seconds.
PAUSES_S = (2.0, 14.0)
SHORT_PAUSES_S = (0.5, 2.0)
IDLE_S = 30.0
FLOW = """
import os, time
from pathlib import Path
from prefect import flow

@flow
def first():
    directory = Path({directory!r}) / (os.environ["PREFECT__FLOW_RUN_ID"] + ".new")
    directory.write_text(repr(time.time()))
    directory.rename(directory.with_suffix(".first"))
"""


class Bench:
    """One server with a pool and a deployment for each."""

    def __init__(self, server: PrefectServer, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self.firsts = directory / "firsts"
        self.firsts.mkdir()
        (directory / "flows.py").write_text(FLOW.format(directory=str(self.firsts)))
        steps = [{"prefect.deployments.steps.set_working_directory": {"directory": str(directory)}}]
        self.deployments = {}
        for pool in (OURS, THEIRS):
            server.add_pool(pool)
            self.deployments[pool] = server.add_deployment(
                pool, f"of {pool}", entrypoint="flows.py:first", pull_steps=steps
            )
        kept = {name: value for name, value in server.environ().items() if not name.startswith("PREFECT_SERVER")}
        self.environ = {**kept, "PREFECT_API_URL": server.api, "PREFECT_HOME": str(directory / "client")}

    def create(self, pool: str) -> tuple[str, float]:
        """Create a run; return its id and the server's time of its creation."""
        body = {"state": {"type": "SCHEDULED"}}
        row = self.server.ask("POST", f"/deployments/{self.deployments[pool]}/create_flow_run", body)
        return row["id"], datetime.fromisoformat(row["created"].replace("Z", "+00:00")).timestamp()

    def first_line(self, run_id: str) -> float:
        path = self.firsts / f"{run_id}.first"
        wait_until(path.exists, timeout_s=120, what=lambda: f"the first line of {self.server.run(run_id)['state']}")
        return float(path.read_text())

    def once(self, pool: str) -> float:
        """Return the seconds from a run's creation to its first user line."""
        run_id, created = self.create(pool)
        waited = self.first_line(run_id) - created
        self.wait_for_end([run_id])
        return waited

    def wait_for_end(self, run_ids: list[str]) -> None:
        """Wait with few requests, which would slow the server down."""
        asked = {"flow_runs": {"id": {"any_": run_ids}, "state": {"type": {"any_": ["COMPLETED"]}}}}
        deadline_s = time.monotonic() + 60 + 10 * len(run_ids)
        while self.server.ask("POST", "/flow_runs/count", asked) < len(run_ids):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"not all of {len(run_ids)} runs were completed")
            time.sleep(0.5)

    def burst(self, pool: str, count: int) -> float:
        """Return the runs a second."""
        began = time.monotonic()
        self.wait_for_end([self.create(pool)[0] for _ in range(count)])
        return count / (time.monotonic() - began)

    def floor(self) -> float:
        """Return the seconds from the start of a bare engine to the first line of a run that is claimed by hand."""
        run_id, _ = self.create(THEIRS)
        self.server.set_state(run_id, "PENDING")
        environ = {**self.environ, "PREFECT__FLOW_RUN_ID": run_id, "PREFECT__FLOW_ENTRYPOINT": "flows.py:first"}
        began = time.time()
        command = [str(installation(PREFECT_3).python), "-m", "prefect.engine"]
        done = subprocess.run(command, env=environ, cwd=self.directory, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.decode()[-2000:])
        return self.first_line(run_id) - began

    @contextmanager
    def worker(self, query_s: float | None, limit: int | None = None) -> Iterator[psutil.Process]:
        """Run Prefect's own worker."""
        command = [str(installation(PREFECT_3).prefect), "worker", "start", "--pool", THEIRS, "--type", "process"]
        command += ["--limit", str(limit)] if limit else []
        environ = {**self.environ, **({"PREFECT_WORKER_QUERY_SECONDS": str(query_s)} if query_s else {})}
        with (self.directory / "worker.log").open("ab") as log:
            process = subprocess.Popen(command, env=environ, cwd=self.directory, stdout=log, stderr=log)
        try:
            self.once(THEIRS)  # it serves, and its caches are warm
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)

    @contextmanager
    def agent(self, limit: int | None = None) -> Iterator[psutil.Process]:
        home = self.directory / f"agent-{limit}"
        command = CommandLine(home, {"HOME": str(self.directory), "PREFECT_HOME": str(self.directory / "client")})
        options = [
            "--pool",
            OURS,
            "--api",
            self.server.api,
            "--runtime",
            f"third={installation(PREFECT_3).python};core=3.*",
        ]
        options += ["--limit", str(limit)] if limit else []
        with background(command, "start", "-n", "bench", *options, until=READY) as going:
            self.once(OURS)
            yield psutil.Process(going.process.pid)


def compare(bench: Bench, name: str, runs: int, pauses_s: tuple[float, float]) -> Iterator[Figure]:
    """Measure both in turns; the worker's note says how many times longer it takes."""
    found = {pool: Figure("", f"{pool}: {name}, created -> first line", "s") for pool in (OURS, THEIRS)}
    for number in range(runs):
        for pool in (OURS, THEIRS) if number % 2 else (THEIRS, OURS):
            time.sleep(random.uniform(*pauses_s))
            found[pool].values.append(bench.once(pool))
    found[THEIRS].note = f"{found[THEIRS].median / found[OURS].median:.1f} times flowherd's"
    yield from found.values()


def idle(processes: dict[str, psutil.Process]) -> Iterator[Figure]:
    before = {name: cpu_s(process) for name, process in processes.items()}
    time.sleep(IDLE_S)
    for name, process in processes.items():
        yield Figure("", f"{name}: idle", "% of a core", [100 * (cpu_s(process) - before[name]) / IDLE_S])


def cpu_s(process: psutil.Process) -> float:
    every = [process, *process.children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in every)


def measure(bench: Bench, options: argparse.Namespace) -> Iterator[Figure]:
    with bench.agent() as agent:
        with bench.worker(None) as worker:
            yield from compare(bench, "defaults, at random moments", options.runs, PAUSES_S)
            yield from idle({OURS: agent, THEIRS: worker})
        with bench.worker(0.2):
            yield from compare(bench, "fastest settings", options.runs, SHORT_PAUSES_S)
    yield Figure("", "floor: prefect.engine by hand", "s", [bench.floor() for _ in range(options.runs)])
    what = f"{options.burst} runs at once, limit {options.limit}"
    rates = {pool: Figure("", f"{pool}: {what}", "runs/s") for pool in (OURS, THEIRS)}
    for _ in range(options.bursts):
        with bench.agent(options.limit):
            rates[OURS].values.append(bench.burst(OURS, options.burst))
        with bench.worker(1.0, options.limit):
            rates[THEIRS].values.append(bench.burst(THEIRS, options.burst))
    yield from rates.values()


def figures(arguments: list[str], directory: Path) -> Iterator[Figure]:
    """Yield all figures, by the options of this program. Raises Unavailable without this Prefect."""
    options = parsed(arguments)
    with running_prefect(directory / "server") as server:
        yield from measure(Bench(server, directory), options)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9, help="runs of each kind for each")
    parser.add_argument("--burst", type=int, default=40, help="runs at once")
    parser.add_argument("--bursts", type=int, default=1, help="bursts for each")
    parser.add_argument("--limit", type=int, default=4, help="flow runs at the same time in a burst")
    return parser.parse_args(arguments)


def main() -> None:
    give_children_default_signals()
    with tempfile.TemporaryDirectory(prefix="flowherd-benchmark-") as name:
        print(f"Prefect {PREFECT_3}, load {os.getloadavg()[0]:.1f} at the beginning", flush=True)
        for figure in figures(sys.argv[1:], Path(name)):
            print(figure.line(), flush=True)
    print(json.dumps({"python": sys.version.split()[0], "cpus": psutil.cpu_count()}))


if __name__ == "__main__":
    main()
