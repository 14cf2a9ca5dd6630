"""What it costs to keep many sleeping runs: the agent's CPU, the memory of each run, and their adoption after a crash.

    python benchmarks/watching.py [--runs 500] [--kind python|command] [--others 300] [--adopt 200] [--seconds 20]

    look        one look at the trees of all runs, in turns with a pass over the process table of the host
    agent       CPU of the whole agent while the runs sleep, in percent of one core; then the same with `--others` more
                processes on the host, which are no runs
    memory      PSS of runner and flow process, and what of it is private (proc(5), smaps_rollup)
    adoption    the agent is killed by SIGKILL and started again: from its start, and from its first line about a run,
                until it watches the last of `--adopt` runs. Beside it the time until an agent without runs is connected
    floor       fork, exit and wait of a small Python process in the same block

Server and agent are the real programs, and the runs are flows that sleep.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.commands import READY, Background, CommandLine, background
from tests.support.waiting import wait_until

from flowherd.host.processes import process_tree

FLOW = "import time\ndef main(): time.sleep(36000)\n"
DEADLINE_S = 600.0
FOUND = "Found a run of an earlier agent"


def floor_ms(rounds: int = 30) -> float:
    """Return the median time of fork, exit and wait of this process, milliseconds."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process, seconds, exact to the nanosecond (proc(5), schedstat, of all its threads)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def runners_of(home: Path) -> dict[str, int]:
    """Return the runner's pid of each run below the home that has started."""
    found = {}
    for started in home.glob("agents/*/runs/*/started"):
        match = re.search(r'"pid": ?(\d+)', started.read_text())
        if match is not None:
            found[started.parent.name] = int(match.group(1))
    return found


def memory_kib(pid: int) -> tuple[int, int]:
    """Return PSS and private memory of a process, KiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    fields = {name.rstrip(":"): int(value) for name, value, *_ in map(str.split, lines)}
    return fields["Pss"], fields["Private_Dirty"] + fields["Private_Clean"]


def compare_looks(runners: dict[str, int], rounds: int) -> None:
    """Print the CPU time of one look by each way."""
    ways = {"table": process_tree.look}
    if hasattr(process_tree, "TreeReader"):
        ways["children"] = process_tree.TreeReader().look
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 2):
        for name, way in ways.items():
            began = time.thread_time()
            way(runners)
            if number >= 2:
                spent[name].append(time.thread_time() - began)
    for name, times in spent.items():
        print(f"look {name:10} {1000 * statistics.median(times):7.1f} ms CPU, n={rounds}, {len(runners)} runs")


def measure_agent(agent: Background, seconds: float, what: str) -> None:
    """Print the agent's CPU over `seconds`."""
    before, began = cpu_s(agent.process.pid), time.monotonic()
    time.sleep(seconds)
    spent, took = cpu_s(agent.process.pid) - before, time.monotonic() - began
    rss = psutil.Process(agent.process.pid).memory_info().rss / 2**20
    print(
        f"agent {what:22} {100 * spent / took:6.2f} % of a core, {rss:.0f} MiB resident,"
        f" {len(psutil.pids())} processes on the host",
        flush=True,
    )


def measure_memory(runners: dict[str, int]) -> None:
    """Print the memory of runners and flow processes."""
    own, flows = [], []
    for pid in list(runners.values())[:40]:
        own.append(memory_kib(pid))
        flows.append([memory_kib(child.pid) for child in psutil.Process(pid).children(recursive=True)])
    for name, found in (
        ("runner", own),
        ("flow", [(sum(p for p, _ in one), sum(q for _, q in one)) for one in flows]),
    ):
        pss, private = (statistics.median(column) / 1024 for column in zip(*found, strict=True))
        print(f"memory {name:8} PSS {pss:5.2f} MiB, private {private:5.2f} MiB, n={len(found)}")


def start_runs(command: CommandLine, flow_id: str, count: int) -> dict[str, int]:
    """Create runs, wait until all are going, and return their runners."""
    before = len(runners_of(command.home))
    with command.client() as client:
        for _ in range(count):
            client.runs.create(flow_id, parameters={})
    wait_until(lambda: len(runners_of(command.home)) >= before + count, timeout_s=DEADLINE_S)
    return runners_of(command.home)


def measure_adoption(stack: ExitStack, command: CommandLine, agent: Background, count: int) -> Background:
    """Kill the agent, start it again, and print how long it takes to have all runs."""
    agent.kill()
    began = time.monotonic()
    again = stack.enter_context(background(command, "start", until=FOUND))
    first = time.monotonic()
    wait_until(lambda: again.text().count(FOUND) >= count, timeout_s=DEADLINE_S)
    found = time.monotonic()
    wait_until(lambda: READY in again.text(), timeout_s=DEADLINE_S)
    ready = time.monotonic()
    print(
        f"adoption of {count}: found after {found - began:.2f} s, connected after {ready - began:.2f} s;"
        f" first found after {first - began:.2f} s; CPU until then {cpu_s(again.process.pid):.2f} s"
    )
    return again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--kind", choices=("python", "command"), default="python")
    parser.add_argument("--others", type=int, default=300, help="further processes of the host")
    parser.add_argument("--adopt", type=int, default=200, help="runs when the agent is killed; 0: do not kill it")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement of the agent")
    parser.add_argument("--rounds", type=int, default=15, help="looks that count")
    options = parser.parse_args()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowherd-benchmark-")))
        (place / "home").mkdir()
        flow = place / "flow.py"
        flow.write_text(FLOW)
        command = CommandLine(place / "home")
        stack.enter_context(background(command, "server", "--port", "0", until="ready at"))
        began = time.monotonic()
        agent = stack.enter_context(background(command, "start", until=READY))
        print(f"agent without runs: connected after {time.monotonic() - began:.2f} s; floor {floor_ms():.2f} ms")
        measure_agent(agent, options.seconds / 2, "without runs")
        what = ["--python", f"{flow}:main"] if options.kind == "python" else ["--command", "--", "sleep", "36000"]
        flow_id = command.json("register", "bench", *what)["id"]
        stack.callback(end_all, command.home)
        runners: dict[str, int] = {}
        if options.adopt:
            runners = start_runs(command, flow_id, options.adopt)
            agent = measure_adoption(stack, command, agent, options.adopt)
        if options.runs > options.adopt:
            runners = start_runs(command, flow_id, options.runs - options.adopt)
        time.sleep(3)
        measure_memory(runners)
        measure_agent(agent, options.seconds, f"{len(runners)} runs")
        others = [subprocess.Popen(["sleep", "36000"]) for _ in range(options.others)]
        measure_agent(agent, options.seconds, f"and {len(others)} others")
        compare_looks(runners, options.rounds)
        for other in others:
            other.kill()
            other.wait()
        print(f"floor {floor_ms():.2f} ms, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")


def end_all(home: Path) -> None:
    """Kill what is left of the runs."""
    for pid in runners_of(home).values():
        for process in (*psutil.Process(pid).children(recursive=True), psutil.Process(pid)):
            process.kill()


if __name__ == "__main__":
    main()
