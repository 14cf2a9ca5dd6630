"""What one finished run costs in the server's database file.

    python benchmarks/database_size.py [--runs 2000] [--lines 10]

A real server stores runs as an agent of ours reports them: created, claimed, Running, lines, Success. The first line is
the agent's own, the last one flowherd's notice of the end. The size is that of the file after a checkpoint, without
VACUUM, less that of the file before the first run. `payload` is what the rows hold; the rest of their pages is free.
"""

from __future__ import annotations

import argparse
import shlex
import sqlite3
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.dialect import Client
from tests.support.server import running_server

from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.states import RunState
from flowherd.values import AgentIdentity, LogLine, StateReport

_HEADER_BYTES = 20


def one_run(client: Client, backend: GraphQLBackend, flow_id: str, number: int, lines: int) -> None:
    """Take one run from its creation to its end, with the reports of flowherd's agent."""
    run_id = client.create_run(flow_id, parameters={"name": f"customer-{number}", "dry": False})
    [run] = backend.ready_runs([], exclude=())
    token = uuid.uuid4().hex
    backend.claim(run, token)
    now, pid = datetime.now(timezone.utc), 100_000 + number
    common = {"flow_run_id": run_id, "claim": token, "pid": pid}
    backend.report(StateReport(state=RunState.RUNNING, message="Running", at=now, **common))
    backend.write_logs(list(log_of(run_id, now, pid, number, lines)))
    ended = StateReport(
        state=RunState.SUCCESS, message="exited with code 0", at=now, reason="exited", grade="proven", **common
    )
    backend.report(ended)


def log_of(run_id: str, at: datetime, pid: int, number: int, lines: int) -> Iterator[LogLine]:
    """Return the log of one run, as an agent sends it."""
    attempt, offset = uuid.uuid4().hex[:12], 0
    for place in range(lines):
        ours = place in (0, lines - 1)
        message = f"step {place}: read {number * 7 + place} rows from warehouse.orders in 0.{place}3 s"
        if ours:
            message = f"Submitted for execution: PID: {pid}" if place == 0 else "exited with code 0 after 1.2 s"
        stream = "flowherd" if ours else "stdout"
        yield LogLine(
            flow_run_id=run_id,
            at=at + timedelta(milliseconds=place * 7, microseconds=place),
            stream=stream,
            level=20,
            logger=stream,
            message=message,
            line_id=f"{attempt}:{offset if place else 'deployed'}",
        )
        offset += _HEADER_BYTES + len(message)


def size_of(path: Path) -> int:
    """Return the size of the database file, with all that is in its journal."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


def breakdown(path: Path) -> list[tuple[str, int, int]]:
    """Return (table or index, bytes of its pages, bytes of its payload); nothing if this SQLite has no dbstat."""
    query = "SELECT name, sum(pgsize), sum(payload) FROM dbstat GROUP BY name ORDER BY 2 DESC"
    with closing(sqlite3.connect(path)) as connection:
        try:
            return list(connection.execute(query))
        except sqlite3.OperationalError:
            return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--lines", type=int, default=10, help="log lines of a run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flowherd-benchmark-") as directory:
        place = Path(directory) / "data"
        with running_server(place) as server:
            client, backend = Client(server), GraphQLBackend(GraphQLTransport(server.url))
            backend.connect()
            backend.register(AgentIdentity(type="LocalAgent", name="agent", labels=()))
            flow_id = client.flow()
            path = place / "flowherd.sqlite"
            before = size_of(path)
            for number in range(options.runs):
                one_run(client, backend, flow_id, number, options.lines)
            grown = size_of(path) - before
            backend.close()
        print(f"{grown / options.runs:.0f} bytes a run of {options.lines} lines ({options.runs} runs)\n")
        for name, pages, payload in breakdown(path):
            if pages / options.runs >= 1:
                print(f"{name:40} {pages / options.runs:7.0f} bytes a run, payload {payload / options.runs:7.0f}")
        print("\n" + shlex.join(["python", *sys.argv]))


if __name__ == "__main__":
    main()
