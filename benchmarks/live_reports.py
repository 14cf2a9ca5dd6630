"""What it costs that somebody looks at running runs: CPU of server and agent, with nobody looking and with somebody.

    python benchmarks/live_reports.py [--runs 50] [--seconds 20]

    nobody      the runs write a line a second each, and nobody asks for their figures
    a list      somebody asks every two seconds for the figures of all runs, as `ps --watch` and pages do
    one run     somebody asks every two seconds for curve and processes of one run too
    first look  time of one question for figures when nobody has looked before: the agents are asked for them

Server and agent are the real programs; the CPU of who asks is not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import Figure, ForkFloor, cpu_s
from benchmarks.watching import end_all, start_runs
from tests.support.commands import READY, CommandLine, background

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd_server.runs.live_board import WATCH_S

EACH_SECOND = "while :; do echo at work; sleep 1; done"
LIST = '{ flow_run(where: {state: {_eq: "Running"}}) { id state figures stuck } }'
#: Pause between two questions, seconds.
PAUSE_S = 2.0


def measured(pids: dict[str, int], seconds: float, what: str, ask: Callable[[], object]) -> Iterator[Figure]:
    """Ask every two seconds for some time; yield the CPU of the processes."""
    ask()
    before, began = {name: cpu_s(pid) for name, pid in pids.items()}, time.monotonic()
    while time.monotonic() < began + seconds:
        ask()
        time.sleep(PAUSE_S)
    took = time.monotonic() - began
    for name, pid in pids.items():
        yield Figure("", f"{name}, {what}", "% of a core", [100 * (cpu_s(pid) - before[name]) / took])


def figures(options: argparse.Namespace, place: Path) -> Iterator[Figure]:
    """Yield all figures."""
    with ExitStack() as stack:
        command = CommandLine(place / "home")
        command.home.mkdir()
        server = stack.enter_context(background(command, "server", "--port", "0", until="ready at"))
        agent = stack.enter_context(background(command, "start", until=READY))
        pids = {"server": server.process.pid, "agent": agent.process.pid}
        flow_id = command.json("register", "bench", "--command", "--", "sh", "-c", EACH_SECOND)["id"]
        stack.callback(end_all, command.home)
        url = json.loads((command.home / "server.json").read_text())["url"]
        transport = GraphQLTransport(url)
        stack.callback(transport.close)
        begin = f"{options.runs} runs, nobody looks"
        runs = start_runs(command, flow_id, options.runs)
        first, time_of_first = next(iter(runs)), Figure("", "first look", "ms")
        for _ in range(3):
            time.sleep(WATCH_S + 3)
            before = time.perf_counter()
            transport.execute(LIST)
            time_of_first.values.append(1000 * (time.perf_counter() - before))
        time.sleep(WATCH_S + 3)
        yield time_of_first
        yield from measured(pids, options.seconds, begin, lambda: None)
        yield from measured(pids, options.seconds, "a list", lambda: transport.execute(LIST))
        one = f'{LIST[:-1]} flow_run_by_pk(id: "{first}") {{ curve processes }} }}'
        yield from measured(pids, options.seconds, "a list and one run", lambda: transport.execute(one))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    floor = ForkFloor()
    with tempfile.TemporaryDirectory(prefix="flowherd-benchmark-") as place:
        for figure in figures(parser.parse_args(), Path(place)):
            print(figure.line(), flush=True)
    print(f"floor {floor.ms():.2f} ms")
    floor.close()


if __name__ == "__main__":
    main()
