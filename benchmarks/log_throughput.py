"""How quickly the lines of a run are in the server's database, and how soon a reader sees one of them.

    python benchmarks/log_throughput.py [--lines 1000000] [--rounds 3] [--root DIRECTORY]...

A real server, agent and Python flow that prints as quickly as it can. From the creation of the run to the last line
committed; CPU time of server and agent for a million lines; then, with --follow, from a line's print to its line of
`flowherd logs -f`. Beside them stands a fork, exit and wait of this process, by which machines can be compared. With
several --root, checkouts of flowherd take turns. Medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil

_HERE = Path(__file__).resolve().parents[1]
_FLOW = """
import os, time
def many():
    for number in range(int(os.environ["LINES"])):
        print("line %d of the log, with some text in it as such lines have" % number)
def now_and_then():
    for _ in range({prints}):
        print(time.time())
        time.sleep({pause_s})
"""
_PRINTS, _PAUSE_S = 30, 0.3


def fork_ms() -> float:
    """Return the median time of a fork, exit and wait, milliseconds."""
    times = []
    for _ in range(20):
        began_s = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        times.append(time.perf_counter() - began_s)
    return statistics.median(times) * 1000


def measure_once(lines: int, follow: bool) -> dict[str, float]:
    """Measure with the checkout that is imported."""
    import sqlite3

    from tests.support.commands import READY, CommandLine, background
    from tests.support.waiting import wait_until

    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowherd-benchmark-")))
        (place / "home").mkdir()
        (place / "flow.py").write_text(_FLOW.format(prints=_PRINTS, pause_s=_PAUSE_S))
        command = CommandLine(place / "home")
        server = stack.enter_context(background(command, "server", "--port", "0", until="ready at"))
        agent = stack.enter_context(background(command, "start", until=READY))
        client = stack.enter_context(command.client())
        found = {"fork_ms": fork_ms()}
        if follow:
            found["print_to_follower_ms"] = _follow(command, client, place)
        flow_id = command.json("register", "many", "--python", f"{place / 'flow.py'}:many", "--env", f"LINES={lines}")[
            "id"
        ]
        processes = {name: psutil.Process(one.process.pid) for name, one in (("server", server), ("agent", agent))}
        before = {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}
        began_s = time.perf_counter()
        run_id = client.runs.create(flow_id, parameters={})
        (database,) = (place / "home").rglob("flowherd.sqlite")
        query = "SELECT log_lines FROM flow_run WHERE id = ?"
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            wait_until(lambda: connection.execute(query, (run_id,)).fetchone()[0] >= lines, timeout_s=600, every_s=0.02)
        took_s = time.perf_counter() - began_s
        wait_until(lambda: client.runs.by_ids([run_id])[0].finished, timeout_s=60)
        found["lines_per_s"] = lines / took_s
        for name, process in processes.items():
            found[f"{name}_s_per_million"] = (sum(process.cpu_times()[:2]) - before[name]) / lines * 1e6
        return found


def _follow(command: Any, client: Any, place: Path) -> float:
    """Return the median time from a line's print to that of `logs -f`, milliseconds."""
    flow_id = command.json("register", "slow", "--python", f"{place / 'flow.py'}:now_and_then")["id"]
    run_id = client.runs.create(flow_id, parameters={})
    times = []
    words = [sys.executable, "-u", "-m", "flowherd", "logs", "-f", run_id]
    with subprocess.Popen(words, env=command.environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for text in process.stdout:
            seen_s = time.time()
            words = text.split()
            if words and words[-1].replace(".", "", 1).isdigit():
                times.append(seen_s - float(words[-1]))
            if len(times) == _PRINTS:
                break
        process.terminate()
    return statistics.median(times[5:]) * 1000


def main() -> None:
    """Measure, and print one row for each checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--root", type=Path, action="append")
    parser.add_argument("--follow", action="store_true")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measure_once(options.lines, options.follow)))
        return
    roots = [root.resolve() for root in options.root or [_HERE]]
    found: dict[Path, list[dict[str, float]]] = {root: [] for root in roots}
    for _ in range(options.rounds):
        for root in roots:
            command = [sys.executable, __file__, "--once", "--lines", str(options.lines)]
            path = {**os.environ, "PYTHONPATH": f"{root}:{root / 'runners'}:{root / 'supervisor'}"}
            done = subprocess.run(
                [*command, *(["--follow"] if options.follow else [])],
                cwd=root, env=path, check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            found[root].append(json.loads(done.stdout.splitlines()[-1]))
    for root, rows in found.items():
        middle = {name: round(statistics.median(row[name] for row in rows), 2) for name in rows[0]}
        print(json.dumps({"root": str(root), "rounds": len(rows), "lines": options.lines, **middle}))


if __name__ == "__main__":
    main()
