"""What the server does by itself: what it costs, and what others notice of it.

python benchmarks/server_background.py [--old 100000] [--seconds 60] [--flows 10000]

heartbeats    of 20 runs in one request, at a server that has nothing to delete and at one that deletes old runs
              meanwhile, in turns: median and 95th percentile in milliseconds, and the ratio of the latter
deleted       old runs a second, with their logs and states
schedules     a pass over many flows with cron schedules of which three are due, beside one of three flows only,
              in milliseconds
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fill_database import Templates
from tests.support.dialect import Client
from tests.support.server import ServerProcess, running_server

from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd_server.schedules.scheduler import schedule_due
from flowherd_server.store.database import FILE_NAME, Database

#: The filled runs have ended during the last month; those before are old.
KEEP_S = 10 * 24 * 3600.0
CRON = {"clocks": [{"type": "CronClock", "cron": "0 3 * * *"}]}


def finished(directory: Path) -> int:
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        return int(connection.execute("SELECT count(*) FROM flow_run WHERE end_time IS NOT NULL").fetchone()[0])


def heartbeats(servers: list[ServerProcess], seconds: float) -> list[list[float]]:
    """Send heartbeats to the servers in turns; return what they took at each, in seconds."""
    agents = [GraphQLBackend(GraphQLTransport(server.url, "")) for server in servers]
    running = [
        [row["id"] for row in Client(server).ask('{ flow_run(where: {state: {_eq: "Running"}}) { id } }')["flow_run"]]
        for server in servers
    ]
    taken: list[list[float]] = [[] for _ in servers]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for at, agent in enumerate(agents):
            began = time.perf_counter()
            agent.heartbeat(running[at][:20])
            taken[at].append(time.perf_counter() - began)
        # Another moment each time, as those of many agents are.
        time.sleep(0.005 + 0.01 * (began % 1))
    return taken


def pruning(place: Path, old: int, seconds: float) -> None:
    templates = Templates(place / "templates")
    directories = [place / "idle", place / "prunes"]
    for directory in directories:
        templates.fill(directory, old * 3 // 2)
    before = finished(directories[1])
    with (
        running_server(directories[0], keep_finished=0) as idle,
        running_server(directories[1], keep_finished=KEEP_S) as prunes,
    ):
        began = time.monotonic()
        taken = heartbeats([idle, prunes], seconds)
        took_s = time.monotonic() - began
        deleted = before - finished(directories[1])
    p95 = [statistics.quantiles(each, n=20)[-1] * 1000 for each in taken]
    for name, each, high in zip(("alone", "beside pruning"), taken, p95, strict=True):
        print(
            f"heartbeats {name:16} median {statistics.median(each) * 1000:6.2f} ms, p95 {high:6.2f} ms, n={len(each)}"
        )
    print(f"ratio of p95: {p95[1] / p95[0]:.2f}")
    print(f"deleted {deleted} runs, {deleted / took_s:.0f} a second")


def schedules(place: Path, flows: int) -> None:
    for count in (3, flows):
        directory = place / f"flows-{count}"
        with running_server(directory) as server:
            client = Client(server)
            project = client.project()
            for number in range(3):
                client.flow(project, name=f"flow-{number}", schedule=CRON)
        _copy_flows(directory / FILE_NAME, count - 3)
        with closing(Database(directory / FILE_NAME)) as database:
            taken = []
            for _ in range(9):
                with database.writing() as connection:
                    connection.exec_driver_sql("UPDATE flow SET schedule_due = 0 WHERE name LIKE 'flow-%'")
                began = time.perf_counter()
                schedule_due(database, 10)
                taken.append(time.perf_counter() - began)
        print(f"schedules: 3 due of {count:6} flows {statistics.median(taken) * 1000:8.2f} ms")


def _copy_flows(path: Path, count: int) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(flow)")]
        changed = {"seq": "NULL", "id": "'copy-' || n", "name": "'copy-' || n", "version_group_id": "'copy-' || n"}
        values = ", ".join(changed.get(name, f'"{name}"') for name in columns)
        connection.execute(
            f"WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count}) "
            f"INSERT INTO flow SELECT {values} FROM (SELECT * FROM flow LIMIT 1), n WHERE {count} > 0"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=int, default=100_000, help="runs to delete")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the measurement beside pruning")
    parser.add_argument("--flows", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flowherd-benchmark-") as place:
        schedules(Path(place), options.flows)
        pruning(Path(place), options.old, options.seconds)


if __name__ == "__main__":
    main()
