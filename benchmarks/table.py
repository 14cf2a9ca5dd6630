"""The figures of docs/performance.md, each beside its floor and beside those who do the like.

    python -m benchmarks.table [--rows NAME ...] [--n 30] [--burst 300] [--lines 200000] [--json FILE]

Rows, all by default; those of one line below are measured in turns, with the floor in each round:

    python command rq celery huey supervisord   one job at a time: first line, and the result at who waits for it
    burst burst4 burst-rq burst-celery burst-huey   trivial jobs at once, without and with limit 4; CPU a run
    claims                                      claims a second of 1, 4 and 8 agents with the same labels
    logs follow                                 log lines a second with their CPU, and from print to `logs -f`
    writer                                      a flow that prints at full speed, beside writing to a file
    watching memory-command                     500 sleeping runs: CPU of the agent, PSS; 200 of them adopted; commands
    idle                                        CPU and resident memory of an agent without runs
    import                                      CPU of `flowherd --help` and `flowherd ps`
    prefect-0.13.1 prefect-1.4.1                a real Prefect flow, beside Prefect's LocalAgent at the same server
    prefect-3                                   a real Prefect 3 flow, beside Prefect's process worker

Every figure is a median with the nine-tenth value and n. "forks" compares with fork, exit and wait of a Python process
in the same rounds (measuring.py, ForkFloor). The peers' environments are made when they are missing; Redis is not:
`apt-get install redis-server`. A peer that cannot be had is left out with a sentence. benchmarks/start_cost.py and
others look at single parts.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import claims, prefect_agents, watching, work_pools, writer_speed
from benchmarks.measuring import (
    Figure,
    FirstLines,
    ForkFloor,
    cpu_s,
    flush_floor_ms,
    in_turns,
    machine,
    program_cpu_ms,
    write_floor_lines_s,
)
from benchmarks.own_runs import OwnRuns, own_runs
from benchmarks.queue_peers import NOTES, Peer, Supervisord, Times, queue_peer, supervisord_peer
from tests.peers.environments import Unavailable
from tests.support.commands import FLOWHERD
from tests.support.processes import give_children_default_signals
from tests.support.server import running_server

QUEUES = ("rq", "celery", "huey")
STARTS = ("python", "command", *QUEUES, "supervisord")
BURSTS = ("burst", "burst4", *(f"burst-{name}" for name in QUEUES))
CLIENTS = (1, 4, 8)
IDLE_S = 10.0


class Table:
    """What was asked for, and what was found."""

    def __init__(self, options: argparse.Namespace, place: Path) -> None:
        self.options = options
        self.place = place
        self.lines = FirstLines(place)
        self.floor = ForkFloor()
        self.figures: list[Figure] = []
        self.missing: list[str] = []
        #: Number of figures that were printed; the floor is at the end.
        self._printed = 1
        self.forks = self.add("floor", "fork, exit and wait of a Python process", "ms")

    def add(self, row: str, what: str, unit: str, note: str = "") -> Figure:
        figure = Figure(row, what, unit, note=note)
        self.figures.append(figure)
        return figure

    def wanted(self, *names: str) -> list[str]:
        return [name for name in names if name in self.options.rows]

    def directory(self, name: str) -> Path:
        directory = self.place / name
        directory.mkdir()
        return directory

    def print_new(self) -> None:
        """Print the figures that were not printed yet, those in milliseconds of single jobs in forks too."""
        new, self._printed = self.figures[self._printed :], len(self.figures)
        for figure in new:
            if not figure.values:
                continue
            in_forks = figure.unit == "ms" and figure.row in STARTS and bool(self.forks.values)
            extra = f"  {figure.median / self.forks.median:.1f} forks" if in_forks else ""
            print(figure.line() + extra, flush=True)


def floors(table: Table) -> None:
    """The floors, without anything else in turns."""
    flush = table.add("floor", "fdatasync of 100 bytes", "ms")
    write = table.add("floor", "print to a file", "lines/s")
    for _ in range(table.options.n):
        table.forks.values.append(table.floor.ms())
        flush.values.append(flush_floor_ms(table.place))
    for _ in range(min(table.options.n, 5)):
        write.values.append(write_floor_lines_s(table.place))


def starts(table: Table) -> None:
    """First line and result of one job at a time, in turns."""
    wanted = table.wanted(*STARTS)
    with ExitStack() as stack:
        ways: dict[str, Callable[[], Times]] = {}
        if {"python", "command"} & set(wanted):
            stand = stack.enter_context(own_runs(table.directory("starts"), table.lines))
            ways["python"] = lambda: stand.once("first_line")
            ways["command"] = lambda: stand.once("command_line")
        for name in wanted:
            if name not in ways and (peer := peer_of(table, stack, name)) is not None:
                ways[name] = peer.once
        measured: dict[str, Callable[[], None]] = {"floor": lambda: table.forks.values.append(table.floor.ms())}
        for name in wanted:
            if name in ways:
                measured[name] = recorder(table, name, ways[name])
        in_turns(measured, table.options.n)


def recorder(table: Table, name: str, once: Callable[[], Times]) -> Callable[[], None]:
    """Return what measures one job and keeps its times."""
    what = f"flowherd, {name} flow" if name in ("python", "command") else name
    line = table.add(name, f"{what}: created -> first line", "ms", NOTES.get(name, ""))
    result = table.add(name, f"{what}: created -> result", "ms")

    def record() -> None:
        times = once()
        line.values.append(times.line)
        result.values.append(times.result)

    return record


def peer_of(table: Table, stack: ExitStack, name: str) -> Peer | Supervisord | None:
    """Start a peer; if it cannot be had, remember why."""
    place = table.directory(f"peer-{name}-{len(table.figures)}")
    try:
        if name == "supervisord":
            return stack.enter_context(supervisord_peer(place, table.lines))
        return stack.enter_context(queue_peer(name, place, table.lines))
    except Unavailable as error:
        table.missing.append(f"{name} is left out: {error}")
        return None


def bursts(table: Table) -> None:
    """Many trivial jobs at once, in turns."""
    count = table.options.burst
    ways: dict[str, Callable[[], None]] = {}
    with ExitStack() as stack:
        for name in table.wanted(*BURSTS):
            if name in ("burst", "burst4"):
                limit = [] if name == "burst" else ["--limit", "4"]
                stand = stack.enter_context(own_runs(table.directory(name), table.lines, *limit))
                ways[name] = own_burst(table, name, stand)
            elif (peer := peer_of(table, stack, name.removeprefix("burst-"))) is not None:
                queue = name.removeprefix("burst-")
                rate = table.add(name, f"{queue}: {count} trivial jobs at once", "jobs/s", NOTES[queue])
                ways[name] = lambda peer=peer, rate=rate: rate.values.append(peer.burst(count))  # type: ignore[misc]
        in_turns(ways, max(1, table.options.n // 10))


def own_burst(table: Table, name: str, stand: OwnRuns) -> Callable[[], None]:
    """Return what measures one burst of runs and the CPU that it took."""
    count, limit = table.options.burst, "no limit" if name == "burst" else "limit 4"
    rate = table.add(name, f"flowherd: {count} trivial runs at once, {limit}", "runs/s")
    spent = {part: table.add(name, f"CPU a run, {limit}: {part}", "ms") for part in stand.spent_s()}

    def record() -> None:
        before = stand.spent_s()
        rate.values.append(stand.burst(count))
        for part, after_s in stand.spent_s().items():
            spent[part].values.append(1000 * (after_s - before[part]) / count)

    return record


def claim_rates(table: Table) -> None:
    """Claims a second of several agents with the same labels."""
    with running_server(table.directory("claims") / "d") as server:
        for clients in CLIENTS:
            rate = table.add("claims", f"claims, agents with the same labels: {clients}", "claims/s")
            for _ in range(max(1, table.options.n // 10)):
                rate.values.append(claims.claims(server, table.options.burst, clients, claims.LANE))


def logs(table: Table) -> None:
    """Lines of a run that prints as quickly as it can, and how long a line takes to a reader."""
    lines = table.options.lines
    with own_runs(table.directory("logs"), table.lines) as stand:
        if "logs" in table.options.rows:
            rate = table.add("logs", f"{lines} log lines, created -> last line stored", "lines/s")
            spent = {part: table.add("logs", f"CPU a million lines: {part}", "s") for part in stand.spent_s()}
            for _ in range(max(1, table.options.n // 10)):
                before = stand.spent_s()
                rate.values.append(lines / stand.log_lines(lines))
                for part, after_s in stand.spent_s().items():
                    spent[part].values.append(1e6 * (after_s - before[part]) / lines)
        if "follow" in table.options.rows:
            delay = table.add("follow", "print -> shown by `logs -f`", "ms")
            delay.values += stand.follow_delays(8 + table.options.n)


def writer(table: Table) -> None:
    """A flow that prints at full speed, beside the same lines into a file."""
    keep(table, "writer", writer_speed.figures(table.options.lines, max(1, table.options.n // 6)))


def watching_runs(table: Table) -> None:
    """What sleeping runs cost."""
    for name in table.wanted("watching", "memory-command"):
        kind = ["--runs", "20", "--kind", "command", "--adopt", "0"] if name == "memory-command" else []
        keep(table, name, watching.figures([*kind, "--others", "0"], table.directory(name)))


def idle(table: Table) -> None:
    """An agent that has nothing to do."""
    import time

    with own_runs(table.directory("idle"), table.lines) as stand:
        spent = table.add("idle", "idle agent", "% of a core")
        resident = table.add("idle", "idle agent, resident", "MiB")
        for _ in range(max(1, min(table.options.n // 10, 3))):
            before = cpu_s(stand.agent_pid)
            time.sleep(IDLE_S)
            spent.values.append(100 * (cpu_s(stand.agent_pid) - before) / IDLE_S)
            resident.values.append(psutil.Process(stand.agent_pid).memory_info().rss / 2**20)


def imports(table: Table) -> None:
    """CPU of short commands, beside a Python that does nothing."""
    with own_runs(table.directory("import"), table.lines) as stand:
        environ = stand.command.environment()
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "flowherd --help": [*FLOWHERD, "--help"],
            "flowherd ps": [*FLOWHERD, "ps"],
        }
        ways: dict[str, Callable[[], None]] = {}
        for name, command in commands.items():
            figure = table.add("import", f"CPU of `{name}`", "ms")
            ways[name] = lambda figure=figure, command=command: figure.values.append(  # type: ignore[misc]
                program_cpu_ms(command, environ)
            )
        in_turns(ways, table.options.n)


def prefects(table: Table) -> None:
    """Real Prefect flows."""
    for version in prefect_agents.VERSIONS:
        if name := "".join(table.wanted(f"prefect-{version}")):
            keep(table, name, prefect_agents.bench(version, max(1, table.options.n // 4), 20, table.directory(name)))
    if "prefect-3" in table.options.rows:
        arguments = ["--runs", str(max(1, table.options.n // 4))]
        keep(table, "prefect-3", work_pools.figures(arguments, table.directory("prefect-3")))


def keep(table: Table, row: str, found: Iterator[Figure]) -> None:
    """Keep the figures of a peer's own benchmark, if the peer can be had."""
    try:
        for figure in found:
            figure.row = row
            table.figures.append(figure)
            table.print_new()
    except Unavailable as error:
        table.missing.append(f"{row} is left out: {error}")


#: What measures which rows.
GROUPS: dict[Callable[[Table], None], tuple[str, ...]] = {
    floors: ("floors",),
    starts: STARTS,
    bursts: BURSTS,
    claim_rates: ("claims",),
    logs: ("logs", "follow"),
    writer: ("writer",),
    watching_runs: ("watching", "memory-command"),
    idle: ("idle",),
    imports: ("import",),
    prefects: (*(f"prefect-{version}" for version in prefect_agents.VERSIONS), "prefect-3"),
}
ROWS = tuple(row for rows in GROUPS.values() for row in rows)


def measure(options: argparse.Namespace, place: Path) -> None:
    """Measure and print the rows that `options` name; keep all values in the file, also after each group."""
    before = machine()
    print(", ".join(f"{name} {value}" for name, value in before.items()), flush=True)
    table = Table(options, place)
    try:
        for group, rows in GROUPS.items():
            if table.wanted(*rows):
                group(table)
                table.print_new()
                write_values(table, before)
    finally:
        table.lines.close()
        table.floor.close()
    print(table.forks.line() if table.forks.values else "", flush=True)
    for sentence in table.missing:
        print(sentence, flush=True)


def write_values(table: Table, before: dict[str, Any]) -> None:
    """Write what was found so far to the file of --json."""
    if table.options.json is not None:
        figures = [figure.as_json() for figure in table.figures if figure.values]
        found = {"machine": before, "load_at_end": machine()["load"], "figures": figures, "missing": table.missing}
        table.options.json.write_text(json.dumps(found, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    parser.add_argument("--n", type=int, default=30, help="jobs one at a time of each kind; bursts: a tenth of it")
    parser.add_argument("--burst", type=int, default=300, help="jobs at once")
    parser.add_argument("--lines", type=int, default=200_000, help="lines of the run that prints")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values here")
    options = parser.parse_args()
    give_children_default_signals()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # leaves no process behind
    with tempfile.TemporaryDirectory(prefix="flowherd-benchmark-") as place:
        measure(options, Path(place))


if __name__ == "__main__":
    main()
