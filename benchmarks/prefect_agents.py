"""Time from a run of a real Prefect flow being due to its first user line: flowherd's agent and Prefect's LocalAgent.

    python benchmarks/prefect_agents.py [--runs 9] [--version 1.4.1]

There is one embedded server, one flow registered by the real client, and both agents at once with a label each. The
runs take turns, so other load on the machine affects both alike.

    random        both agents idle; a run is created at a random moment
    after another the run before has just ended, so the next poll is near
    ahead         a run that is created three seconds before it is due; measured from that time
    burst         many runs created at once: runs a second until the last one has ended
    memory        of an agent with what it keeps ready, and of everything that one run adds while it goes on

The time of the first user line is written down by the flow's first task.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import Figure
from tests.peers.agent_processes import AgentProcess
from tests.peers.environments import installation
from tests.peers.prefect1.workspace import PROJECT, Workspace, flowherd_agent, local_agent, running_workspace
from tests.support.processes import give_children_default_signals
from tests.support.waiting import wait_until

VERSIONS = ("0.13.1", "1.4.1")
AGENTS = ("flowherd", "real")
NAMES = {"flowherd": "flowherd", "real": "LocalAgent"}
#: The longest pause of the LocalAgent is ten seconds.
PAUSES_S = (5.0, 20.0)
AHEAD_S = 3.0
REGISTER = f"""
import pathlib, sys, time
import prefect
from prefect import Flow, task

@task
def first(seconds):
    path = pathlib.Path({{scratch!r}}) / (prefect.context.flow_run_id + ".new")
    path.write_text(repr(time.time()))
    path.rename(path.with_suffix(".first"))
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
    """Both agents at one server."""

    def __init__(self, workspace: Workspace, agents: dict[str, AgentProcess]) -> None:
        self._workspace = workspace
        self._client = workspace.client
        self.agents = agents
        self._flows = {label: self._flow_id(label) for label in agents}

    def _flow_id(self, label: str) -> str:
        found = self._client.ask(f'query {{ flow(where: {{name: {{_eq: "bench-{label}"}}}}) {{ id }} }}')
        flow_id: str = found["flow"][0]["id"]
        return flow_id

    def create(self, label: str, seconds: float = 0, at: datetime | None = None) -> str:
        """Create a run for the agent with this label."""
        start = {} if at is None else {"scheduled_start_time": at.isoformat()}
        return self._client.create_run(self._flows[label], parameters={"seconds": seconds}, labels=[label], **start)

    def first_line(self, run_id: str) -> float:
        """Wait for the flow's first task; return when it began."""
        path = self._workspace.scratch / f"{run_id}.first"
        wait_until(path.exists, timeout_s=90, what=lambda: f"first line of {run_id}: {self.state(run_id)}")
        return float(path.read_text())

    def state(self, run_id: str) -> str:
        found = self._client.ask(f'query {{ flow_run_by_pk(id: "{run_id}") {{ state }} }}')
        state: str = found["flow_run_by_pk"]["state"]
        return state

    def wait_for_end(self, run_id: str) -> None:
        wait_until(lambda: self.state(run_id) == "Success", timeout_s=180, what=lambda: self.state(run_id))

    def once(self, label: str, ahead_s: float = 0) -> float:
        """Return the seconds from a run being due to its first user line."""
        ready = time.time() + ahead_s
        at = datetime.fromtimestamp(ready, timezone.utc) if ahead_s else None
        run_id = self.create(label, at=at)
        waited = self.first_line(run_id) - ready
        self.wait_for_end(run_id)
        wait_until(lambda: not self.agents[label].still_has(run_id), timeout_s=30)
        return waited

    def burst(self, label: str, count: int) -> float:
        """Return the runs a second."""
        began = time.monotonic()
        for run_id in [self.create(label) for _ in range(count)]:
            self.wait_for_end(run_id)
        return count / (time.monotonic() - began)

    def memory(self, label: str) -> tuple[float, float]:
        """Return MiB of the agent with what it keeps ready, and what one run adds, counting shared pages in parts."""
        before = pss_mib(self.agents[label])
        run_id = self.create(label, seconds=4)
        self.first_line(run_id)
        during = pss_mib(self.agents[label])
        self.wait_for_end(run_id)
        return before, during - before


def pss_mib(agent: AgentProcess) -> float:
    """Return MiB of the agent and all its descendants."""
    top = psutil.Process(agent.process.pid)
    return sum(process.memory_full_info().pss for process in [top, *top.children(recursive=True)]) / 2**20


def compare(name: str, runs: int, measure: Callable[[str], float]) -> Iterator[Figure]:
    """Measure both in turns; the real one's note says how many times longer it takes."""
    found = {label: Figure("", f"{NAMES[label]}: {name}", "ms") for label in AGENTS}
    for number in range(runs):
        for label in AGENTS if number % 2 else reversed(AGENTS):
            found[label].values.append(1000 * measure(label))
    found["real"].note = f"{found['real'].median / found['flowherd'].median:.1f} times flowherd's"
    yield from found.values()


def bench(version: str, runs: int, burst: int, directory: Path) -> Iterator[Figure]:
    """Yield the figures of both agents. Raises Unavailable without this Prefect."""
    with ExitStack() as stack:
        workspace = stack.enter_context(running_workspace(installation(version), directory))
        workspace.make_project()
        workspace.python("-c", REGISTER.format(scratch=str(workspace.scratch)))
        agents = {
            "flowherd": stack.enter_context(flowherd_agent(workspace, "--no-hostname-label", label="flowherd")),
            "real": stack.enter_context(local_agent(workspace, label="real")),
        }
        bench = Bench(workspace, agents)
        for label in AGENTS:
            bench.once(label)  # bytecode and caches
        yield from compare("just after another run, due -> first line", runs, bench.once)
        yield from compare("created ahead, due -> first line", runs, lambda label: bench.once(label, AHEAD_S))

        def at_random(label: str) -> float:
            time.sleep(random.uniform(*PAUSES_S))
            return bench.once(label)

        yield from compare("at random moments, due -> first line", runs, at_random)
        for label in AGENTS:
            yield Figure("", f"{NAMES[label]}: burst of {burst}", "runs/s", [bench.burst(label, burst)])
        for label in AGENTS:
            ready, added = bench.memory(label)
            yield Figure("", f"{NAMES[label]}: ready", "MiB", [ready])
            yield Figure("", f"{NAMES[label]}: more for one run", "MiB", [added])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9, help="runs of each kind for each agent")
    parser.add_argument("--burst", type=int, default=20, help="runs at once")
    parser.add_argument("--version", choices=VERSIONS, action="append", help="default: both")
    options = parser.parse_args()
    give_children_default_signals()
    for version in options.version or VERSIONS:
        with tempfile.TemporaryDirectory(prefix="flowherd-benchmark-") as directory:
            print(f"Prefect {version}", flush=True)
            for figure in bench(version, options.runs, options.burst, Path(directory)):
                print(figure.line(), flush=True)
    print(json.dumps({"python": sys.version.split()[0], "cpus": psutil.cpu_count()}))


if __name__ == "__main__":
    main()
