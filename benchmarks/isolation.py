"""What each level of isolation costs beside `none`: the start of a run, its CPU time, its memory.

    python benchmarks/isolation.py [--n 30] [--burst 50] [--sleeping 10] [--levels none private sealed sealed+network]

    first line   from the answer to the creation of a run until its code runs, for a Python flow and for a command; and
                 the same until its end is known at who waits for it
    CPU          of fork server, runner and flow process, for one of many trivial runs that were created at once
    memory       PSS of runner, flow process and the first process of the pid namespace while the flow sleeps, with the
                 page tables, which PSS leaves out (proc(5), smaps_rollup and VmPTE)

Each level has an agent of its own with a server, whose [runs.isolation] says so; `+network` takes the network away too.
They are measured in turns, so other load on the machine affects all of them alike, and what a level costs more is the
median of the differences within the rounds. Run it as root and as an ordinary user: the latter needs user namespaces,
and has no figures of memory, because only root may read the PSS of flowherd's processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import Figure, FirstLines, ForkFloor, in_turns, machine
from benchmarks.own_runs import OwnRuns, own_runs
from benchmarks.watching import memory_kib

LEVELS = ("none", "private", "sealed", "sealed+network")
STARTS = {"python": "first_line", "command": "command_line"}
SLEEPERS = {"python": "sleeping", "command": "command_sleeping"}
#: What the goal of 5 ms and 1 MiB for `sealed` is compared with.
BASE = "none"
#: More than a spare runner waits before it rehearses a start, seconds.
IDLE_S = 0.5


def environment(level: str, directory: Path) -> dict[str, str]:
    """Return the settings of an agent whose runs have this level, and may write into `directory`."""
    name, _, network = level.partition("+")
    wanted = {"LEVEL": name, "NETWORK": "none" if network else "host", "WRITE": json.dumps([str(directory)])}
    isolation = {f"FLOWHERD__RUNS__ISOLATION__{key}": value for key, value in wanted.items()}
    return {**isolation, "FLOWHERD__SERVER__TOKEN": "of-the-benchmark"}


def starts(stands: dict[str, OwnRuns], n: int) -> Iterator[Figure]:
    """Yield how long starts and results take at each level."""
    for kind, flow in STARTS.items():
        lines = {level: Figure(level, f"{level}, {kind}: created -> first line", "ms") for level in stands}
        results = {level: Figure(level, f"{level}, {kind}: created -> result", "ms") for level in stands}

        ways = {level: partial(_start, stands[level], flow, lines[level], results[level]) for level in stands}
        in_turns(ways, n)
        for found in (lines, results):
            yield from compared(found)


def _start(stand: OwnRuns, flow: str, line: Figure, result: Figure) -> None:
    time.sleep(IDLE_S)
    times = stand.once(flow)
    line.values.append(times.line)
    result.values.append(times.result)


def cpu_times(stands: dict[str, OwnRuns], burst: int, rounds: int = 5) -> Iterator[Figure]:
    """Yield the CPU time of one of `burst` runs at each level."""
    found = {level: Figure(level, f"{level}: CPU of a trivial run, child side", "ms") for level in stands}

    in_turns({level: partial(_burst, stands[level], burst, found[level]) for level in stands}, rounds)
    yield from compared(found)


def _burst(stand: OwnRuns, count: int, found: Figure) -> None:
    before = stand.spent_s()
    stand.burst(count)
    after = stand.spent_s()
    name = "fork server, runner and flow"
    found.values.append(1000 * (after[name] - before[name]) / count)


def memory(stands: dict[str, OwnRuns], count: int) -> Iterator[Figure]:
    """Yield the memory of a sleeping run at each level."""
    for kind, flow in SLEEPERS.items():
        found = {}
        for level, stand in stands.items():
            runners = stand.sleeping(flow, count)
            time.sleep(1)
            found[level] = Figure(level, f"{level}: memory of a sleeping {kind} run", "MiB")
            found[level].values += [_mebibytes(pid) for pid in runners.values()]
            stand.cancel_all()
        yield from compared(found)


def _mebibytes(runner: int) -> float:
    tree = [runner, *(child.pid for child in psutil.Process(runner).children(recursive=True))]
    return sum(memory_kib(pid)[0] + _page_tables_kib(pid) for pid in tree) / 1024


def _page_tables_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmPTE:")), 0)


def compared(found: dict[str, Figure]) -> Iterable[Figure]:
    """Return the figures, each with a note of how much more than at level none it is."""
    base = found.get(BASE)
    for figure in found.values():
        if base is not None and figure is not base:
            more = statistics.median(a - b for a, b in zip(figure.values, base.values, strict=False))
            figure.note = f"{more:+.2f} {figure.unit} beside {BASE}"
    return found.values()


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=30, help="starts of each kind at each level")
    parser.add_argument("--burst", type=int, default=50, help="runs at once; 0: leave out")
    parser.add_argument("--sleeping", type=int, default=10, help="runs whose memory root measures; 0: leave out")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
    return parser.parse_args(arguments)


def figures(arguments: list[str], place: Path) -> Iterator[Figure]:
    """Yield all figures, by the options of this program."""
    options = parsed(arguments)
    written = place / "lines"
    written.mkdir()
    lines = FirstLines(written)
    with ExitStack() as stack:
        stack.callback(lines.close)
        stands = {
            level: stack.enter_context(own_runs(place / level, lines, environment=environment(level, written)))
            for level in options.levels
        }
        yield from starts(stands, options.n)
        if options.burst:
            yield from cpu_times(stands, options.burst)
        if options.sleeping and os.geteuid() == 0:
            yield from memory(stands, options.sleeping)


def main() -> None:
    floor = ForkFloor()
    with tempfile.TemporaryDirectory(prefix="flowherd-benchmark-") as place:
        for figure in figures(sys.argv[1:], Path(place)):
            print(figure.line(), flush=True)
    print(f"uid {os.geteuid()}, floor {statistics.median(floor.ms() for _ in range(10)):.2f} ms, {machine()}")
    floor.close()


if __name__ == "__main__":
    main()
