"""A flow that prints as quickly as it can: how much longer it takes than to write the same lines to a file.

    python benchmarks/writer_speed.py [--lines 300000] [--rounds 5] [--root DIRECTORY]...

Both in the same run, one after the other, with print; the runner journals the lines meanwhile, and no agent delivers
them. With several --root, checkouts of flowherd take turns. Medians; "CPU" compares the
CPU time of the flow's process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import Figure

_HERE = Path(__file__).resolve().parents[1]

_FLOW = """
import json, sys, time
def many(stream):
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for i in range({lines}):
        print("line %d of the log, with some text in it as such lines have" % i, file=stream)
    stream.flush()
    return time.perf_counter() - began_s, time.process_time() - cpu_s
def main():
    with open({path!r}, "w") as file:
        to_file = many(file)
    print(json.dumps([to_file, many(sys.stdout)]), file=sys.stderr)
"""


def measure_once(lines: int) -> None:
    """Print, as JSON, seconds and CPU seconds for the file, and then for standard output."""
    from tests.support.runner import ForkServer

    with tempfile.TemporaryDirectory() as directory:
        server = ForkServer(sys.executable, Path(directory, "runs"))
        try:
            run = server.python(_FLOW.format(lines=lines, path=str(Path(directory, "lines"))))
            end = run.wait(600.0)
            assert end["lines"] == lines + 1, end
            print(run.lines("stderr")[-1])
        finally:
            server.close()


def once(lines: int, root: Path) -> list[list[float]]:
    """Return seconds and CPU seconds for the file, and for standard output, with the flowherd of this checkout."""
    command = [sys.executable, __file__, "--once", "--lines", str(lines)]
    path = {"PYTHONPATH": f"{root}:{root / 'runners'}:{root / 'supervisor'}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=root, env=path, check=True, capture_output=True, text=True)
    found: list[list[float]] = json.loads(done.stdout)
    return found


def figures(lines: int, rounds: int) -> Iterator[Figure]:
    """Yield how many lines a second this checkout takes from a flow, and how much longer than a file."""
    rows = [once(lines, _HERE) for _ in range(rounds)]
    yield Figure("", "print in a flow", "lines/s", [lines / stdout[0] for _, stdout in rows])
    yield Figure("", "times slower than to a file", "times", [stdout[0] / file[0] for file, stdout in rows])
    yield Figure("", "CPU of the flow, against to a file", "times", [stdout[1] / file[1] for file, stdout in rows])


def main() -> None:
    """Measure, and print one row for each checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--root", type=Path, action="append")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        measure_once(options.lines)
        return
    roots = [root.resolve() for root in options.root or [_HERE]]
    found: dict[Path, list[list[list[float]]]] = {root: [] for root in roots}
    for _ in range(options.rounds):
        for root in roots:
            found[root].append(once(options.lines, root))
    print("file, s  stdout, s  times slower  CPU, times  us/line")
    for root, rows in found.items():
        middle = [
            statistics.median(column)
            for column in zip(
                *((a[0], b[0], b[0] / a[0], b[1] / a[1], b[0] / options.lines * 1e6) for a, b in rows), strict=True
            )
        ]
        print("{:7.3f}  {:9.3f}  {:12.2f}  {:10.2f}  {:7.2f}".format(*middle), root)


if __name__ == "__main__":
    main()
