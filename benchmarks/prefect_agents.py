"""From a run of a real Prefect flow being ready to its first user line: flowherd's agent beside Prefect's LocalAgent.

    python benchmarks/prefect_agents.py [--runs 9] [--version 1.4.1]

One embedded server, one flow registered by the real client, both agents at once, each with a label of its own; the runs
take turns, so that whatever else the machine does meets both alike.

    random        both agents idle; a run is made at a random moment
    after another the run before has just ended, so a poll is not far away
    ahead         a run that was made with a time three seconds ahead; from that time on
    burst         many runs made at once: runs a second until the last one has ended
    memory        of an agent with what it keeps ready, and of everything that one run adds, while it runs

The first user line is the time that the flow's first task writes down itself.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.peers.environments import installation
from tests.peers.prefect1.workspace import PROJECT, Going, Ground, flowherd_agent, on_ground, real_agent
from tests.support.waiting import wait_until

VERSIONS = ("0.13.1", "1.4.1")
AGENTS = ("flowherd", "real")
#: The longest pause of the LocalAgent is ten seconds.
PAUSES_S = (5.0, 20.0)
AHEAD_S = 3.0
REGISTER = f"""
import pathlib, sys, time
import prefect
from prefect import Flow, task

@task
def first(seconds):
    place = pathlib.Path({{scratch!r}}) / (prefect.context.flow_run_id + ".new")
    place.write_text(repr(time.time()))
    place.rename(place.with_suffix(".first"))
    time.sleep(seconds)

for label in {AGENTS!r}:
    with Flow("bench-" + label) as flow:
        first(prefect.Parameter("seconds", default=0))
    flow.storage = prefect.storage.Local(add_default_labels=False) if hasattr(prefect, "storage") else None
    if hasattr(prefect, "run_configs"):
        from prefect.run_configs import LocalRun
        flow.run_config = LocalRun(labels=[label])
    else:
        from prefect.environments import LocalEnvironment
        from prefect.environments.storage import Local
        flow.environment, flow.storage = LocalEnvironment(labels=[label]), Local()
    flow.register({PROJECT!r})
"""


class Bench:
    """Both agents on one ground."""

    def __init__(self, ground: Ground, agents: dict[str, Going]) -> None:
        self._ground = ground
        self._client = ground.client
        self.agents = agents
        self._flows = {label: self._flow_id(label) for label in agents}

    def _flow_id(self, label: str) -> str:
        found = self._client.ask(f'query {{ flow(where: {{name: {{_eq: "bench-{label}"}}}}) {{ id }} }}')
        flow_id: str = found["flow"][0]["id"]
        return flow_id

    def create(self, label: str, seconds: float = 0, at: datetime | None = None) -> str:
        """A run for the agent with this label."""
        start = {} if at is None else {"scheduled_start_time": at.isoformat()}
        return self._client.create_run(self._flows[label], parameters={"seconds": seconds}, labels=[label], **start)

    def first_line(self, run_id: str) -> float:
        """When the flow's first task began."""
        path = self._ground.scratch / f"{run_id}.first"
        wait_until(path.exists, timeout_s=90, what=lambda: f"first line of {run_id}: {self.state(run_id)}")
        return float(path.read_text())

    def state(self, run_id: str) -> str:
        found = self._client.ask(f'query {{ flow_run_by_pk(id: "{run_id}") {{ state }} }}')
        state: str = found["flow_run_by_pk"]["state"]
        return state

    def wait_for_end(self, run_id: str) -> None:
        wait_until(lambda: self.state(run_id) == "Success", timeout_s=180, what=lambda: self.state(run_id))

    def once(self, label: str, ahead_s: float = 0) -> float:
        """Seconds from a run being ready to its first user line."""
        ready = time.time() + ahead_s
        at = datetime.fromtimestamp(ready, timezone.utc) if ahead_s else None
        run_id = self.create(label, at=at)
        waited = self.first_line(run_id) - ready
        self.wait_for_end(run_id)
        wait_until(lambda: not self.agents[label].still_has(run_id), timeout_s=30)
        return waited

    def burst(self, label: str, count: int) -> float:
        """Runs a second."""
        began = time.monotonic()
        for run_id in [self.create(label) for _ in range(count)]:
            self.wait_for_end(run_id)
        return count / (time.monotonic() - began)

    def memory(self, label: str) -> tuple[float, float]:
        """MiB of the agent and what it keeps ready; and what one more run adds. Shared pages count in parts (PSS)."""
        before = pss_mib(self.agents[label])
        run_id = self.create(label, seconds=4)
        self.first_line(run_id)
        during = pss_mib(self.agents[label])
        self.wait_for_end(run_id)
        return before, during - before


def pss_mib(agent: Going) -> float:
    """Of the agent and all its descendants."""
    top = psutil.Process(agent.process.pid)
    return sum(process.memory_full_info().pss for process in [top, *top.children(recursive=True)]) / 2**20


def compare(name: str, runs: int, measure: Callable[[str], float]) -> None:
    seconds: dict[str, list[float]] = {label: [] for label in AGENTS}
    for number in range(runs):
        for label in AGENTS if number % 2 else reversed(AGENTS):
            seconds[label].append(measure(label))
    medians = {label: statistics.median(values) for label, values in seconds.items()}
    for label, values in seconds.items():
        print(
            f"  {name:14} {label:9} median {medians[label] * 1000:8.0f} ms"
            f"   ({min(values) * 1000:.0f} to {max(values) * 1000:.0f}, n={len(values)})",
            flush=True,
        )
    print(f"  {name:14} real / flowherd: {medians['real'] / medians['flowherd']:.1f}\n", flush=True)


def bench(version: str, runs: int, burst: int, place: Path) -> None:
    print(f"Prefect {version}", flush=True)
    with ExitStack() as stack:
        ground = stack.enter_context(on_ground(installation(version), place))
        ground.make_project()
        ground.python("-c", REGISTER.format(scratch=str(ground.scratch)))
        agents = {
            "flowherd": stack.enter_context(flowherd_agent(ground, "--no-hostname-label")),
            "real": stack.enter_context(real_agent(ground)),
        }
        bench = Bench(ground, agents)
        for label in AGENTS:
            bench.once(label)  # bytecode and caches
        compare("after another", runs, bench.once)
        compare("ahead", runs, lambda label: bench.once(label, AHEAD_S))

        def at_random(label: str) -> float:
            time.sleep(random.uniform(*PAUSES_S))
            return bench.once(label)

        compare("random", runs, at_random)
        for label in AGENTS:
            print(f"  burst of {burst:5} {label:9} {bench.burst(label, burst):.2f} runs/s", flush=True)
        for label in AGENTS:
            ready, added = bench.memory(label)
            print(f"  memory         {label:9} {ready:.0f} MiB ready, {added:.0f} MiB more for one run", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9, help="runs of each kind for each agent")
    parser.add_argument("--burst", type=int, default=20, help="runs at once")
    parser.add_argument("--version", choices=VERSIONS, action="append", help="default: both")
    options = parser.parse_args()
    for version in options.version or VERSIONS:
        with tempfile.TemporaryDirectory(prefix="flowherd-benchmark-") as place:
            bench(version, options.runs, options.burst, Path(place))
    print(json.dumps({"python": sys.version.split()[0], "cpus": psutil.cpu_count()}))


if __name__ == "__main__":
    main()
