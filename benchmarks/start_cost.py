"""Time from the request for a run to its first line of user code, compared with two ways without a fork server.

    python benchmarks/start_cost.py [--pairs 30] [--python INTERPRETER]

    floor        start a bare interpreter: python -c print
    interpreter  start an interpreter that imports what the flow needs, as other agents do for each run
    fork server  request it from a fork server that has imported it once

The three take turns, so other load on the machine affects all of them alike. The clock is CLOCK_MONOTONIC, the same for
all processes of a host; the user's code prints it first.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.runner import ForkServer

HEAVY = ["asyncio", "sqlite3", "http.server", "xml.dom.minidom", "unittest.mock"]
FIRST_LINE = "import time; print(time.monotonic(), flush=True)"


def by_interpreter(python: str, imports: list[str]) -> float:
    """Return the seconds until an interpreter has done the imports and prints its first line."""
    code = "".join(f"import {name}; " for name in imports) + FIRST_LINE
    began = time.monotonic()
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout) - began


def by_fork_server(server: ForkServer) -> float:
    """Return the seconds until a run that is requested now prints its first line."""
    run = server.prepare("python", {"ref": "first_line:main"}, import_paths=[str(server.runs_directory)])
    began = time.monotonic()
    server.start(run)
    run.wait()
    return float(run.lines("stdout")[0]) - began


def measure(ways: dict[str, Callable[[], float]], pairs: int) -> dict[str, list[float]]:
    """Take turns for `pairs` rounds, after one that does not count; return the seconds of each way."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(pairs + 1):
        for name, way in ways.items():
            seconds = way()
            if number:
                found[name].append(seconds)
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30, help="rounds that count")
    parser.add_argument("--python", default=sys.executable, help="interpreter to measure with")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flowherd-bench-") as directory:
        Path(directory, "first_line.py").write_text(f"def main():\n    {FIRST_LINE}\n", encoding="utf-8")
        server = ForkServer(options.python, Path(directory), preload=HEAVY)
        try:
            ways: dict[str, Callable[[], float]] = {
                "floor": lambda: by_interpreter(options.python, []),
                "interpreter": lambda: by_interpreter(options.python, HEAVY),
                "fork server": lambda: by_fork_server(server),
            }
            found = measure(ways, options.pairs)
        finally:
            server.close()
    print(f"{options.pairs} rounds, {server.ready['python']}, preloaded: {', '.join(HEAVY)}")
    print(f"{'':12} {'median':>10} {'quartiles':>20}   {'to the floor':>12}   {'to interpreter':>14}")
    for name, seconds in found.items():
        low, middle, high = statistics.quantiles(seconds, n=4)
        ratios = [statistics.median(a / b for a, b in zip(seconds, found[base], strict=True))
                  for base in ("floor", "interpreter")]  # fmt: skip
        spread = f"{1000 * low:.1f} - {1000 * high:.1f} ms"
        print(f"{name:12} {1000 * middle:7.1f} ms {spread:>20}   {ratios[0]:11.2f}x   {ratios[1]:13.2f}x")


if __name__ == "__main__":
    main()
