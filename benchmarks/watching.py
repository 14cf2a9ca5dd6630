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
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import Figure, ForkFloor, cpu_s
from tests.support.commands import READY, Background, CommandLine, background
from tests.support.waiting import wait_until

from flowherd.host.processes import process_tree

FLOW = "import time\ndef main(): time.sleep(36000)\n"
DEADLINE_S = 600.0
FOUND = "Found a run of an earlier agent"


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


def compare_looks(runners: dict[str, int], rounds: int) -> Iterator[Figure]:
    """Yield the CPU time of one look by each way."""
    ways = {"process table": process_tree.look, "lists of children": process_tree.TreeReader().look}
    spent = {name: Figure("", f"one look at {len(runners)} runs by the {name}", "ms") for name in ways}
    for number in range(rounds + 2):
        for name, way in ways.items():
            began = time.thread_time()
            way(runners)
            if number >= 2:
                spent[name].values.append(1000 * (time.thread_time() - began))
    yield from spent.values()


def measure_agent(agent: Background, seconds: float, what: str) -> Iterator[Figure]:
    """Yield the agent's CPU over `seconds`."""
    before, began = cpu_s(agent.process.pid), time.monotonic()
    time.sleep(seconds)
    spent, took = cpu_s(agent.process.pid) - before, time.monotonic() - began
    rss = psutil.Process(agent.process.pid).memory_info().rss / 2**20
    yield Figure(
        "", f"agent {what}", "% of a core", [100 * spent / took], f"{len(psutil.pids())} processes on the host"
    )
    yield Figure("", f"agent {what}, resident", "MiB", [rss])


def measure_memory(runners: dict[str, int], what: str) -> Iterator[Figure]:
    """Yield the memory of runners and flow processes."""
    pss = Figure("", f"PSS of {what}, runner and flow", "MiB")
    private = Figure("", f"private memory of {what}, runner and flow", "MiB")
    for pid in list(runners.values())[:40]:
        below = [child.pid for child in psutil.Process(pid).children(recursive=True)]
        found = [memory_kib(each) for each in (pid, *below)]
        pss.values.append(sum(one for one, _ in found) / 1024)
        private.values.append(sum(one for _, one in found) / 1024)
    yield from (pss, private)


def start_runs(command: CommandLine, flow_id: str, count: int) -> dict[str, int]:
    """Create runs, wait until all are going, and return their runners."""
    before = len(runners_of(command.home))
    with command.client() as client:
        for _ in range(count):
            client.runs.create(flow_id, parameters={})
    wait_until(lambda: len(runners_of(command.home)) >= before + count, timeout_s=DEADLINE_S)
    return runners_of(command.home)


def adopted(stack: ExitStack, command: CommandLine, agent: Background, count: int) -> tuple[Background, list[Figure]]:
    """Kill the agent, start it again, and return how long it takes to have all runs."""
    agent.kill()
    began = time.monotonic()
    again = stack.enter_context(background(command, "start", until=FOUND))
    first = time.monotonic()
    wait_until(lambda: again.text().count(FOUND) >= count, timeout_s=DEADLINE_S)
    found = time.monotonic()
    wait_until(lambda: READY in again.text(), timeout_s=DEADLINE_S)
    ready = time.monotonic()
    whole = Figure("", f"{count} runs adopted after kill -9, from the agent's start", "s", [found - began])
    return again, [
        whole,
        Figure("", "of these until the first was found", "s", [first - began]),
        Figure("", "connected, from the agent's start", "s", [ready - began]),
        Figure("", "CPU of the agent until then", "s", [cpu_s(again.process.pid)]),
    ]


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--kind", choices=("python", "command"), default="python")
    parser.add_argument("--others", type=int, default=300, help="further processes of the host")
    parser.add_argument("--adopt", type=int, default=200, help="runs when the agent is killed; 0: do not kill it")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement of the agent")
    parser.add_argument("--rounds", type=int, default=15, help="looks that count")
    return parser.parse_args(arguments)


def figures(arguments: list[str], place: Path) -> Iterator[Figure]:
    """Yield all figures, by the options of this program."""
    options = parsed(arguments)
    with ExitStack() as stack:
        (place / "home").mkdir()
        flow = place / "flow.py"
        flow.write_text(FLOW)
        command = CommandLine(place / "home")
        stack.enter_context(background(command, "server", "--port", "0", until="ready at"))
        agent = stack.enter_context(background(command, "start", until=READY))
        yield from measure_agent(agent, options.seconds / 2, "without runs")
        what = ["--python", f"{flow}:main"] if options.kind == "python" else ["--command", "--", "sleep", "36000"]
        flow_id = command.json("register", "bench", *what)["id"]
        stack.callback(end_all, command.home)
        runners: dict[str, int] = {}
        if options.adopt:
            runners = start_runs(command, flow_id, options.adopt)
            agent, found = adopted(stack, command, agent, options.adopt)
            yield from found
        if options.runs > options.adopt:
            runners = start_runs(command, flow_id, options.runs - options.adopt)
        time.sleep(3)
        yield from measure_memory(runners, f"a sleeping {options.kind} run")
        yield from measure_agent(agent, options.seconds, f"with {len(runners)} sleeping runs")
        others = [subprocess.Popen(["sleep", "36000"]) for _ in range(options.others)]
        if others:
            yield from measure_agent(agent, options.seconds, f"with {len(others)} other processes too")
        yield from compare_looks(runners, options.rounds)
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    floor = ForkFloor()
    with tempfile.TemporaryDirectory(prefix="flowherd-benchmark-") as place:
        for figure in figures(sys.argv[1:], Path(place)):
            print(figure.line(), flush=True)
    print(f"floor {floor.ms():.2f} ms, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    floor.close()


def end_all(home: Path) -> None:
    """Kill what is left of the runs."""
    for pid in runners_of(home).values():
        with contextlib.suppress(psutil.Error):  # a runner ends when its flow process has
            for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
                process.kill()


if __name__ == "__main__":
    main()
