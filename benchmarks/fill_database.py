"""Fills a server's database with many runs, quickly and with the rows that the server itself writes.

A real server makes some runs of each kind through its operations. Their rows are then copied in SQLite, with new ids
and times, as if the server had been used for a month.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Table
from tests.support.dialect import Client
from tests.support.server import running_server

from flowherd_server.runs.random_names import random_name
from flowherd_server.store.columns import TimeUs
from flowherd_server.store.database import FILE_NAME, Database
from flowherd_server.store.tables import METADATA

FLOWS = 50
#: Labels of the agent that polls; runs that wait for somebody else have others.
LABELS = ("host-1",)
LINES = 10
#: One run in this many waits for an agent that never comes.
ELSEWHERE = 20
_MONTH_US = 30 * 24 * 3600 * 1_000_000
#: {kind of run: how often among the finished ones}.
_KINDS = {"plain": 10, "logged": 6, "task": 1, "Failed": 2, "Cancelled": 1}
_LEVELS = ("INFO", "INFO", "INFO", "DEBUG", "WARNING")


class Templates:
    """The data directory of a server that has made some runs of each kind for each flow."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with running_server(directory) as server:
            finished, self._waiting = make_runs(Client(server), FLOWS)
        self._finished = [run_id for kind, count in _KINDS.items() for run_id in finished[kind] * count]
        random.Random(1).shuffle(self._finished)

    def fill(self, directory: Path, runs: int) -> None:
        """Make the database of a server in `directory` with `runs` runs, but at least the templates."""
        directory.mkdir()
        shutil.copy(self._directory / FILE_NAME, directory)
        elsewhere = runs // ELSEWHERE
        with _without_indexes(directory / FILE_NAME) as connection:
            known = connection.execute("SELECT count(*) FROM flow_run").fetchone()[0]
            _copy(connection, self._finished, max(0, runs - elsewhere - known))
            _copy(connection, self._waiting, elsewhere)
            # The server must not take it for an older copy, of which it hands out no runs at first.
            connection.execute("DELETE FROM this_database")


def make_runs(client: Client, flows: int) -> tuple[dict[str, list[str]], list[str]]:
    """Make flows with runs of each kind. Returns the finished ones by kind, and those that wait for other agents."""
    project, agent = client.project(), client.agent(*LABELS)
    finished: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    waiting = []
    for number in range(flows):
        flow = client.flow(project, name=f"flow-{number}", run_config={"type": "LocalRun", "labels": list(LABELS)})
        with_task = client.flow(project, name=f"tasks-{number}", tasks=[{"slug": "a-1"}]) if number % 10 == 0 else flow
        for kind in _KINDS:
            run_id = client.create_run(with_task if kind == "task" else flow, labels=list(LABELS))
            _play(client, agent, run_id, kind)
            finished[kind].append(run_id)
        waiting.append(client.create_run(flow, labels=["elsewhere", f"pool-{number}"]))
        # Runs that go on or wait for their time; there are as many in a large database as in a small one.
        soon = (datetime.now(timezone.utc) + timedelta(days=1)).isoformat()
        client.create_run(flow, labels=list(LABELS), scheduled_start_time=soon)
        if number < 20:
            _start(agent, client.create_run(flow, labels=list(LABELS)))
    return finished, waiting


def _start(agent: Client, run_id: str) -> None:
    agent.report(run_id, "Submitted", claim=run_id)
    agent.report(run_id, "Running", claim=run_id)


def _play(client: Client, agent: Client, run_id: str, kind: str) -> None:
    if kind == "Cancelled":
        client.do("cancel_flow_run", flow_run_id=run_id)
        return
    _start(agent, run_id)
    if kind == "task":
        for task in client.run(run_id, "task_runs { id }")["task_runs"]:
            client.report_task(task["id"], "Running")
            client.report_task(task["id"], "Success")
    if kind in ("logged", "Failed"):
        agent.do("write_run_logs", logs=[_line(run_id, number, kind) for number in range(LINES)])
    agent.report(run_id, "Failed" if kind == "Failed" else "Success", claim=run_id)


def _line(run_id: str, number: int, kind: str) -> dict[str, Any]:
    level = "ERROR" if kind == "Failed" and number == LINES - 1 else _LEVELS[number % len(_LEVELS)]
    message = f"line {number} of a run, as long as such lines usually are: {'x' * 40}"
    at = datetime.now(timezone.utc).isoformat()
    info = {"stream": "stdout"}
    line = {"timestamp": at, "name": "stdout", "level": level, "message": message, "info": info}
    return {"flow_run_id": run_id, "line_id": f"1:{number * 120}", **line}


@contextmanager
def _without_indexes(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the database without its indexes and triggers, which the server makes again when it opens it."""
    with closing(sqlite3.connect(path)) as connection:
        for pragma in ("journal_mode=DELETE", "journal_mode=OFF", "synchronous=OFF", "cache_size=-1500000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function("new_id", 0, _new_id)
        connection.create_function("new_name", 0, random_name)
        made = "SELECT type, name FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
        for kind, name in connection.execute(made).fetchall():
            connection.execute(f'DROP {kind} "{name}"')
        yield connection
        connection.commit()
    Database(path).close()


def _new_id() -> str:
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"


def _copy(connection: sqlite3.Connection, templates: list[str], count: int) -> None:
    """Add `count` copies of the runs with the ids `templates`, the oldest first."""
    with contextlib.suppress(sqlite3.OperationalError):
        connection.executescript("DROP TABLE temp.copy; DROP TABLE temp.pick; DROP TABLE temp.task_copy")
    connection.execute("CREATE TEMP TABLE pick (number INTEGER PRIMARY KEY, id TEXT)")
    connection.executemany("INSERT INTO pick VALUES (?, ?)", enumerate(templates))
    # `shift` is what to add to a template's times.
    connection.execute("CREATE TEMP TABLE copy (number INTEGER PRIMARY KEY, template TEXT, id TEXT, shift INTEGER)")
    connection.execute(
        f"WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < {count}) "
        f"INSERT INTO copy SELECT n, pick.id, new_id(), -{_MONTH_US} * ({count} - n) / {max(count, 1)} "
        f"FROM n JOIN pick ON pick.number = n % {len(templates)} WHERE {count} > 0"
    )
    flow_run, task_run = METADATA.tables["flow_run"], METADATA.tables["task_run"]
    _insert(connection, flow_run, "copy JOIN flow_run AS t ON t.id = copy.template", {"id": "copy.id"})
    connection.execute(
        "CREATE TEMP TABLE task_copy AS SELECT copy.number, new_id() AS id, t.id AS template, copy.id AS run, shift "
        "FROM copy JOIN task_run AS t ON t.flow_run_id = copy.template"
    )
    _insert(
        connection,
        task_run,
        "task_copy AS copy JOIN task_run AS t ON t.id = copy.template",
        {"id": "copy.id", "flow_run_id": "copy.run"},
    )
    numbered = "copy JOIN flow_run AS r ON r.id = copy.template JOIN flow_run AS new ON new.id = copy.id"
    for name in ("run_state", "log_attempt", "log_line"):
        _insert(connection, METADATA.tables[name], f"{numbered} JOIN {name} AS t ON t.run = r.seq", {"run": "new.seq"})
    source = "task_copy AS copy JOIN task_run_state AS t ON t.task_run_id = copy.template"
    _insert(connection, METADATA.tables["task_run_state"], source, {"task_run_id": "copy.id"})


def _insert(connection: sqlite3.Connection, table: Table, source: str, changed: dict[str, str]) -> None:
    """Insert the rows of `source`, where `t` is the template's row, with new keys and times."""
    values = {column.name: f"t.{column.name}" for column in table.c if column.computed is None}
    for column in table.c:
        if isinstance(column.type, TimeUs):
            values[column.name] = f"t.{column.name} + copy.shift"
    if "seq" in values:
        values |= {"seq": "NULL", "id": "new_id()"}
    values |= changed
    if table.name == "flow_run":
        values["name"] = "new_name()"
    columns = ", ".join(values)
    connection.execute(
        f"INSERT INTO {table.name} ({columns}) SELECT {', '.join(values.values())} FROM {source} ORDER BY copy.number"
    )
