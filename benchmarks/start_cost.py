"""Time from the request for a run to its first line, and from that to its end, beside two ways without a fork server.

    python benchmarks/start_cost.py [--pairs 30] [--python INTERPRETER] [--import MODULE]... | [--bare]

    floor        start a bare interpreter: python -c print
    interpreter  start an interpreter that imports what the flow needs, as other agents do for each run
    fork server  request it from a fork server that has imported it once
    spare        the same, with a spare runner that has waited for a while

They take turns, so other load on the machine affects all of them alike. The clock is CLOCK_MONOTONIC, the same for
all processes of a host; the user's code prints it as its only line, so the rest is the end of an interpreter. A
run's end includes what its runner does then: looking for processes that are left, and the record of the end.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.runner import ForkServer

HEAVY = ["asyncio", "sqlite3", "http.server", "xml.dom.minidom", "unittest.mock"]
#: More than a spare runner waits before it rehearses a start, seconds.
IDLE_S = 0.5
FIRST_LINE = "import time; print(time.monotonic(), flush=True)"


class Times(NamedTuple):
    """How long one run took, seconds."""

    start: float
    end: float


def by_interpreter(python: str, imports: list[str]) -> Times:
    """Return how long an interpreter takes to do the imports and print its line, and to end."""
    code = "".join(f"import {name}; " for name in imports) + FIRST_LINE
    began = time.monotonic()
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    ended, printed = time.monotonic(), float(done.stdout)
    return Times(printed - began, ended - printed)


def by_fork_server(server: ForkServer) -> Times:
    """Return how long a run that is requested now takes to print its line, and to be recorded as ended."""
    run = server.prepare("python", {"ref": "first_line:main"}, import_paths=[str(server.runs_directory)])
    if server.spares_wanted:
        server.wait_for_spare()
        time.sleep(IDLE_S)
    began = time.monotonic()
    server.start(run)
    server.receive("gone")
    ended, printed = time.monotonic(), float(run.lines("stdout")[0])
    return Times(printed - began, ended - printed)


def measure(ways: dict[str, Callable[[], Times]], pairs: int) -> dict[str, list[Times]]:
    """Take turns for `pairs` rounds, after one that does not count; return the times of each way."""
    found: dict[str, list[Times]] = {name: [] for name in ways}
    for number in range(pairs + 1):
        for name, way in ways.items():
            times = way()
            if number:
                found[name].append(times)
    return found


def print_table(what: str, found: dict[str, list[float]]) -> None:
    """Print the medians of each way, and their ratios to those without a fork server."""
    print(f"{what:12} {'median':>10} {'quartiles':>20}   {'to the floor':>12}   {'to interpreter':>14}")
    for name, seconds in found.items():
        low, middle, high = statistics.quantiles(seconds, n=4)
        ratios = [statistics.median(a / b for a, b in zip(seconds, found[base], strict=True))
                  for base in ("floor", "interpreter")]  # fmt: skip
        spread = f"{1000 * low:.1f} - {1000 * high:.1f} ms"
        print(f"{name:12} {1000 * middle:7.1f} ms {spread:>20}   {ratios[0]:11.2f}x   {ratios[1]:13.2f}x")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30, help="rounds that count")
    parser.add_argument("--python", default=sys.executable, help="interpreter to measure with")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--import", dest="imports", action="append", metavar="MODULE", help="what the flow needs")
    what.add_argument("--bare", dest="imports", action="store_const", const=[], help="a flow that needs nothing")
    options = parser.parse_args()
    imports = HEAVY if options.imports is None else options.imports
    with tempfile.TemporaryDirectory(prefix="flowherd-bench-") as directory:
        Path(directory, "first_line.py").write_text(f"def main():\n    {FIRST_LINE}\n", encoding="utf-8")
        server = ForkServer(options.python, Path(directory), preload=imports)
        spare = ForkServer(options.python, Path(directory), preload=imports, spares_wanted=1)
        try:
            ways: dict[str, Callable[[], Times]] = {
                "floor": lambda: by_interpreter(options.python, []),
                "interpreter": lambda: by_interpreter(options.python, imports),
                "fork server": lambda: by_fork_server(server),
                "spare": lambda: by_fork_server(spare),
            }
            found = measure(ways, options.pairs)
        finally:
            server.close()
            spare.close()
    print(f"{options.pairs} rounds, {server.ready['python']}, preloaded: {', '.join(imports) or 'nothing'}")
    print_table("start", {name: [times.start for times in of_way] for name, of_way in found.items()})
    print_table("end", {name: [times.end for times in of_way] for name, of_way in found.items()})


if __name__ == "__main__":
    main()
