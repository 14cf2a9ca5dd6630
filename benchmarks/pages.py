"""What the pages of a server cost: time of each page with many runs, and the CPU of pages that are left open.

    python benchmarks/pages.py [--runs 100000] [--rounds 15] [--streams 50] [--run-pages 20] [--seconds 20]

A real server on a database that fill_database.py has filled. First the median and the 90th percentile of each page, in
milliseconds from request to answer. Then 20 runs go on at one agent, which reports their figures every two seconds as
it does while somebody watches, and `--streams` readers look at the overview, or `--run-pages` of them each at the page
of one of the runs: the server's CPU time as a share of one core, without readers and with them, and the bytes that one
reader gets a second.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fill_database import Templates
from tests.support.dialect import Client
from tests.support.server import ServerProcess, running_server

PAGES = {
    "overview": "/",
    "runs": "/runs",
    "runs that failed": "/runs?q=state:failed",
    "runs that failed since yesterday": "/runs?q=state:failed+since:24h",
    "runs with a word (none)": "/runs?q=nothing-like-it",
    "runs of a flow": "/runs?q=flow:flow-*1",
    "flows": "/flows",
    "schedules": "/schedules",
    "agents": "/agents",
}
_RUNS, _EVERY_S = 20, 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--run-pages", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "data"
        Templates(Path(place) / f"templates-{uuid.uuid4()}").fill(data, options.runs)
        with running_server(data) as server:
            print(f"{options.runs:,} runs")
            for name, path in PAGES.items():
                taken = sorted(_timed(server, path) for _ in range(options.rounds + 1))[: options.rounds]
                print(f"{name:36} {statistics.median(taken):6.0f} ms, p90 {taken[int(len(taken) * 0.9)]:6.0f} ms")
            _left_open(server, options.streams, options.run_pages, options.seconds)


def _timed(server: ServerProcess, path: str) -> float:
    began = time.perf_counter()
    requests.get(server.url + path, timeout=60).raise_for_status()
    return (time.perf_counter() - began) * 1000


def _left_open(server: ServerProcess, streams: int, run_pages: int, seconds: float) -> None:
    agent = Client(server).agent("watched")
    flow = agent.flow()
    runs = [agent.create_run(flow, labels=["watched"]) for _ in range(_RUNS)]
    for run_id in runs:
        agent.report(run_id, "Submitted")
        agent.report(run_id, "Running")
    stop = threading.Event()
    reporter = threading.Thread(target=_report, args=(agent, runs, stop))
    reporter.start()
    try:
        print(f"20 runs that go on, no reader:       {_cpu_share(server, seconds):6.1%} of a core")
        _watched(server, {"overview": ["/"] * streams}, seconds)
        pages = [f"/runs/{runs[place % _RUNS]}" for place in range(run_pages)]
        _watched(server, {"overview": ["/"] * (streams - run_pages), "pages of runs": pages}, seconds)
    finally:
        stop.set()
        reporter.join()


def _watched(server: ServerProcess, kinds: dict[str, list[str]], seconds: float) -> None:
    readers = {kind: [_Reader(server.url, path) for path in paths] for kind, paths in kinds.items() if paths}
    try:
        time.sleep(5)  # until all have the page
        before = {kind: some[0].received for kind, some in readers.items()}
        share = _cpu_share(server, seconds)
        print(f"20 runs that go on, {sum(map(len, readers.values())):3} readers:     {share:6.1%} of a core")
        for kind, some in readers.items():
            rate = (some[0].received - before[kind]) / seconds / 1024
            print(f"    {len(some):3} of the {kind:24}{rate:6.1f} KiB/s a reader")
    finally:
        for reader in (one for some in readers.values() for one in some):
            reader.close()


def _report(agent: Client, runs: list[str], stop: threading.Event) -> None:
    number = 0
    while not stop.wait(_EVERY_S):
        number += 1
        figures: list[dict[str, Any]] = [
            {
                "id": run_id,
                "at": time.time(),
                "memory_bytes": (100 + (number * 7 + place) % 50) * 2**20,
                "memory_limit_bytes": 2**30,
                "cpu_share": (number * 3 + place) % 10 / 10,
                "cpu_time_s": float(number),
                "processes": 3,
            }
            for place, run_id in enumerate(runs)
        ]
        report = {"instance": "x", "host": "here", "limit": 50, "runs": len(runs), "run_figures": figures}
        agent.do("offer_runs", holder="x", labels=["watched"], room=1, report=report)


class _Reader:
    """A page that is open, which reads its stream and does nothing with it."""

    def __init__(self, url: str, path: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.sendall(f"GET /events?view={quote(path, safe='')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.received = 0
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while data := self._socket.recv(65536):
            self.received += len(data)


def _cpu_share(server: ServerProcess, seconds: float) -> float:
    process = psutil.Process(server.pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(seconds)
    return float(sum(process.cpu_times()[:2]) - before) / seconds


if __name__ == "__main__":
    main()
