"""How long agents wait for the embedded server while it makes large answers for somebody else.

    python benchmarks/server_answers.py [--batches 200] [--runs 10000] [--readers 1]

    usual        batches of 250 log lines, one after the other, as an agent sends them
    beside       the same while other connections ask again and again for what `flowherd ps --all --limit 10000` asks
    ratio        the second p95 over the first; it stays below 2
    heartbeat    one run's heartbeat, in both ways
    /health      the look of a load balancer, in both ways
    answers      how long such a large answer takes from the request to its last byte, and its size

Both ways take turns within one run of one server, so that other load on the machine meets both alike. The readers only
read bytes: what `ps` itself does with them is not the server's.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.dialect import Client
from tests.support.server import ServerProcess, running_server

from flowherd.client.runs import _FIELDS

LINES = 250
#: Number of times that the two ways take turns.
TURNS = 4
QUERY = f"query {{ flow_run(order_by: {{created: desc}}, limit: %d) {{ {_FIELDS} }} }}"
#: Asks for the same again and again; prints seconds and bytes of each answer.
READER = """
import http.client, json, sys, time
host, body = sys.argv[1], json.dumps({"query": sys.argv[2]})
connection = http.client.HTTPConnection(host, timeout=120)
buffer = bytearray(1 << 20)
while True:
    began, size = time.monotonic(), 0
    connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    while (read := answer.readinto(buffer)):
        size += read
    print(time.monotonic() - began, size, answer.status, flush=True)
"""


def copy_runs(server: ServerProcess, run_id: str, count: int) -> None:
    """Fill the database of a server that does not run with copies of one run."""
    with sqlite3.connect(server.data_dir / "flowherd.sqlite") as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(flow_run)") if row[1] not in ("id", "seq")]
        new_id = "lower(printf('%s-%s-4%s-8%s-%s', hex(randomblob(4)), hex(randomblob(2)), "
        new_id += "substr(hex(randomblob(2)), 2), substr(hex(randomblob(2)), 2), hex(randomblob(6))))"
        names = ", ".join(columns)
        values = ", ".join("NULL" if name == "idempotency_key" else name for name in columns)
        database.execute(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            f"INSERT INTO flow_run (id, {names}) SELECT {new_id}, {values} FROM n, flow_run WHERE flow_run.id = ?",
            (count, run_id),
        )


class Agent:
    """Sends what an agent sends, over one connection."""

    def __init__(self, server: ServerProcess, run_id: str) -> None:
        self._url = server.url
        self._run_id = run_id
        self._session = requests.Session()
        self._line = 0

    def batch(self) -> None:
        """Send a batch of log lines."""
        logs = [self._log_line(self._line + index) for index in range(LINES)]
        self._line += LINES
        text = "mutation($input: write_run_logs_input!) { write_run_logs(input: $input) { success } }"
        self._ask(text, {"input": {"logs": logs}})

    def heartbeat(self) -> None:
        """Send the heartbeat of the run."""
        text = "mutation($input: update_flow_run_heartbeat_input!)"
        text += " { update_flow_run_heartbeat(input: $input) { success } }"
        self._ask(text, {"input": {"flow_run_id": self._run_id}})

    def health(self) -> None:
        """Look whether the server is well."""
        self._session.get(self._url + "/health", timeout=60).raise_for_status()

    def _log_line(self, number: int) -> dict[str, Any]:
        return {
            "flow_run_id": self._run_id,
            "timestamp": "2024-01-01T00:00:00.000000+00:00",
            "name": "flow",
            "level": "INFO",
            "message": f"line {number}: " + "x" * 80,
            "info": {"stream": "stdout"},
            "line_id": f"{number:012d}",
        }

    def _ask(self, text: str, variables: Any) -> None:
        body = {"query": text, "variables": json.dumps(variables)}
        answer = self._session.post(self._url + "/graphql", json=body, timeout=60)
        answer.raise_for_status()
        assert "errors" not in answer.json(), answer.text


@contextmanager
def readers(server: ServerProcess, count: int, limit: int, printed: Path) -> Iterator[None]:
    """Have other processes ask for large answers all the time."""
    with printed.open("a") as file:
        command = [sys.executable, "-c", READER, server.url.partition("//")[2], QUERY % limit]
        processes = [subprocess.Popen(command, stdout=file) for _ in range(count)]
        try:
            time.sleep(1)  # until their interpreters have started
            yield
        finally:
            for process in processes:
                process.kill()
                process.wait()


def seconds(action: Callable[[], None]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def show(name: str, usual: list[float], beside: list[float]) -> None:
    def words(values: list[float]) -> str:
        return f"median {statistics.median(values) * 1000:6.1f} p95 {p95(values) * 1000:6.1f} ms"

    ratio = p95(beside) / p95(usual)
    print(f"{name:18} usual {words(usual)}   beside {words(beside)}   ratio of p95 {ratio:5.2f}   n={len(usual)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=200, help="batches each way")
    parser.add_argument("--runs", type=int, default=10_000, help="runs in a large answer")
    parser.add_argument("--readers", type=int, default=1, help="connections that ask for large answers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flowherd-benchmark-") as directory:
        place = Path(directory)
        with running_server(place / "data") as server:
            run_id = Client(server).create_run(parameters={"n": 1, "name": "a value of some length"})
            server.stop()
            copy_runs(server, run_id, options.runs)
            server.start()
            agent = Agent(server, run_id)
            times: dict[str, tuple[list[float], list[float]]] = {}
            for _ in range(TURNS):
                for way in (0, 1):
                    with readers(server, way * options.readers, options.runs, place / "answers"):
                        for _ in range(options.batches // TURNS):
                            for name in ("batch", "heartbeat", "health"):
                                times.setdefault(name, ([], []))[way].append(seconds(getattr(agent, name)))
            show(f"{LINES} log lines", *times["batch"])
            show("heartbeat", *times["heartbeat"])
            show("/health", *times["health"])
            answers = [line.split() for line in (place / "answers").read_text().splitlines()]
            assert {status for _, _, status in answers} == {"200"}, answers[0]
            sizes = {int(size) for _, size, _ in answers}
            took = statistics.median(float(each) for each, _, _ in answers)
            print(f"answers: median {took:.2f} s for {max(sizes) / 1e6:.1f} MB, n={len(answers)}")


if __name__ == "__main__":
    main()
