"""CPU time and page faults of one run on the child side: fork server, runner and flow process together.

    python benchmarks/run_cost.py [--runs 40] [--rounds 5] [--import MODULE]...

    python      a function that does nothing, called in the fork
    command     the program `true`
    with heap   the same command from a fork server that has imported the modules of `--import`
    floor       fork, exit and wait of a small Python process

In each round every way carries out its runs, one after the other. CPU time and faults are those that the kernel has
counted for the fork server and the children that were waited for (proc(5), /proc/PID/stat), so no agent is among them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.runner import ForkServer

HEAVY = ["asyncio", "sqlite3", "http.server", "xml.dom.minidom", "unittest.mock"]
#: Forks a child that ends at once, as often as its argument says; prints its CPU time in seconds.
FLOOR = """
import os, resource, sys
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(sum(one.ru_utime + one.ru_stime for one in used), sum(one.ru_minflt for one in used))
"""


class Cost(NamedTuple):
    """What one run costs."""

    cpu_ms: float
    faults: float
    wall_ms: float


def counted(pid: int) -> tuple[float, int]:
    """Return CPU time (seconds) and page faults of a process and of its children that were waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK"), int(fields[7]) + int(fields[8])


def by_fork_server(server: ForkServer, kind: str, target: dict[str, object], runs: int) -> Cost:
    """Return the cost of one of `runs` runs."""
    before, faults = counted(server.process.pid)
    began = time.monotonic()
    for _ in range(runs):
        server.start(server.prepare(kind, dict(target)))
        server.receive("gone")
    took = time.monotonic() - began
    after, faults_after = counted(server.process.pid)
    return Cost(1000 * (after - before) / runs, (faults_after - faults) / runs, 1000 * took / runs)


def by_fork(runs: int) -> Cost:
    """Return the cost of a bare fork; the start of its interpreter is subtracted."""
    cost = []
    for count in (0, runs):
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-I", "-c", FLOOR, str(count)], capture_output=True, check=True)
        cpu_s, faults = done.stdout.split()
        cost.append((float(cpu_s), int(faults), time.monotonic() - began))
    (cpu0, faults0, wall0), (cpu1, faults1, wall1) = cost
    return Cost(1000 * (cpu1 - cpu0) / runs, (faults1 - faults0) / runs, 1000 * (wall1 - wall0) / runs)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40, help="of each way in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--import", dest="imports", action="append", metavar="MODULE")
    options = parser.parse_args()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowherd-bench-")))
        (place / "nothing.py").write_text("def main():\n    pass\n")
        bare, heavy = (ForkServer(sys.executable, place, preload=given) for given in ([], options.imports or HEAVY))
        stack.callback(heavy.close)
        stack.callback(bare.close)
        function, true = {"ref": f"{place}/nothing.py:main"}, {"argv": ["true"]}
        ways: dict[str, Callable[[], Cost]] = {
            "python": lambda: by_fork_server(bare, "python", function, options.runs),
            "command": lambda: by_fork_server(bare, "command", true, options.runs),
            "with heap": lambda: by_fork_server(heavy, "command", true, options.runs),
            "floor": lambda: by_fork(options.runs),
        }
        found: dict[str, list[Cost]] = {name: [] for name in ways}
        for number in range(options.rounds + 1):
            for name, way in ways.items():
                cost = way()
                if number:
                    found[name].append(cost)
    print(f"{options.rounds} rounds of {options.runs} runs, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    floor = statistics.median(cost.cpu_ms for cost in found["floor"])
    for name, costs in found.items():
        cpu_ms, faults, wall_ms = (statistics.median(column) for column in zip(*costs, strict=True))
        text = f"{name:10} {cpu_ms:6.2f} ms CPU ({cpu_ms / floor:5.1f} forks), {faults:6.0f} faults, {wall_ms:6.1f} ms"
        print(text)


if __name__ == "__main__":
    main()
