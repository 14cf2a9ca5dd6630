"""From a run's creation to its first user line and to its end, through a real server and a real agent.

    python benchmarks/end_to_end.py [--runs 30] [--burst 60]

    flowherd      create the run at the server; the time at which its first line was printed
    spawned       start a new interpreter that imports the flow's file and calls its function, as agents do that start
                  one for each run: without any server, claim or log, so a floor for all of those
    burst         many runs created at once: runs a second until the last one has ended
    idle          CPU and memory of agent and server while nothing happens, over ten seconds

The first two take turns, so that whatever else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.commands import READY, CommandLine, background
from tests.support.waiting import wait_until

FLOW = "import time\ndef main(): print(time.monotonic(), flush=True)\n"
IDLE_S = 10.0


def spawned(file: Path) -> float:
    code = f"import runpy; runpy.run_path({str(file)!r})['main']()"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout) - began


def row(name: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    print(
        f"{name:34} median {statistics.median(ordered) * 1000:8.1f} ms"
        f"   ({ordered[0] * 1000:.1f} to {ordered[-1] * 1000:.1f}, n={len(ordered)})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30, help="pairs of single runs")
    parser.add_argument("--burst", type=int, default=60, help="runs at once")
    options = parser.parse_args()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowherd-benchmark-")))
        (place / "home").mkdir()
        flow = place / "flow.py"
        flow.write_text(FLOW)
        command = CommandLine(place / "home")
        server = stack.enter_context(background(command, "server", "--port", "0", until="ready at"))
        agent = stack.enter_context(background(command, "start", until=READY))
        flow_id = command.json("register", "bench", "--python", f"{flow}:main")["id"]
        client = stack.enter_context(command.client())
        first_line, to_end, floor = [], [], []
        for number in range(options.runs + 1):
            began = time.monotonic()
            run_id = client.runs.create(flow_id, parameters={})
            wait_until(lambda run_id=run_id: client.runs.by_ids([run_id])[0].finished)
            ended = time.monotonic()
            printed = float(command.lines(run_id)[0])
            alone = spawned(flow)
            if number:
                first_line.append(printed - began)
                to_end.append(ended - began)
                floor.append(alone)
        row("flowherd, created -> first line", first_line)
        row("flowherd, created -> Success", to_end)
        row("spawned interpreter -> first line", floor)
        print(
            f"ratio of the medians, flowherd / spawned: {statistics.median(first_line) / statistics.median(floor):.2f}"
        )
        began = time.monotonic()
        runs = [client.runs.create(flow_id, parameters={}) for _ in range(options.burst)]
        wait_until(lambda: all(run.finished for run in client.runs.by_ids(runs)), timeout_s=300)
        took_s = time.monotonic() - began
        print(f"burst of {options.burst}: {options.burst / took_s:.1f} runs/s (all ended after {took_s:.2f} s)")
        watched = {"agent": psutil.Process(agent.process.pid), "server": psutil.Process(server.process.pid)}
        before = {name: process.cpu_times() for name, process in watched.items()}
        time.sleep(IDLE_S)
        for name, process in watched.items():
            spent_s = sum(process.cpu_times()[:2]) - sum(before[name][:2])
            memory = process.memory_info().rss / 2**20
            print(f"idle {name}: {100 * spent_s / IDLE_S:.2f} % of one CPU, {memory:.0f} MiB resident")
        print(json.dumps({"python": sys.version.split()[0], "cpus": psutil.cpu_count()}))


if __name__ == "__main__":
    main()
