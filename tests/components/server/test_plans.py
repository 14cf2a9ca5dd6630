"""What the server really executes uses an index, so it stays fast with a million runs: checked in SQLite's plans.

The operations are those that benchmarks/server_scale.py measures, through the same clients and a real server, and the
server's own passes. Each of their statements is recorded and explained.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from benchmarks.fill_database import make_runs
from benchmarks.server_scale import Measured
from sqlalchemy import event
from sqlalchemy.engine import Engine

from flowherd_server.runs.rescue import Rescue
from flowherd_server.runs.stale_heartbeats import RescueOptions, StaleHeartbeats
from flowherd_server.runs.startup_wakes import startup_wakes
from flowherd_server.schedules.scheduler import schedule_due
from flowherd_server.service import ServerCore
from flowherd_server.store.database import FILE_NAME, Database
from flowherd_server.store.pruning import prune
from flowherd_server.web.app import create_app
from tests.support.dialect import Client
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

LARGE = r"(flow_run|run_state|task_run|task_run_state|log_line)(_\d+)?"
#: Lookups that find the rows of one run at most.
OF_ONE_RUN = re.compile(r"\((rowid|seq|id|run|flow_run_id|task_run_id)=\?")
NEVER = StaleHeartbeats(before_us=2, claimed_before_us=1)
#: {statement: parameters}.
Statements = dict[str, Any]


class ServerHere(ServerProcess):
    """A server in a thread of this process, so that its statements can be recorded."""

    @contextmanager
    def running(self) -> Iterator[Database]:
        self.data_dir.mkdir()
        with closing(Database(self.data_dir / FILE_NAME)) as database:
            thread = threading.Thread(target=asyncio.run, args=(self._serve(database),))
            thread.start()
            try:
                wait_until(lambda: self.url)
                yield database
            finally:
                self._uvicorn.should_exit = True
                thread.join()

    async def _serve(self, database: Database) -> None:
        core = ServerCore(database, 10, 0, RescueOptions())
        config = uvicorn.Config(
            create_app(core, "127.0.0.1", "", max_waits=10), port=0, log_config=None, lifespan="off"
        )
        self._uvicorn = uvicorn.Server(config)
        serving = asyncio.create_task(self._uvicorn.serve())
        while not self._uvicorn.started:
            await asyncio.sleep(0.01)
        self.url = f"http://127.0.0.1:{self._uvicorn.servers[0].sockets[0].getsockname()[1]}"
        await serving
        await core.stop()


@contextmanager
def recorded() -> Iterator[Statements]:
    """Yield the statements that are executed in the block."""
    statements: Statements = {}

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        statements.setdefault(statement, parameters[0] if many else parameters)

    def note_plain(statement: str) -> None:
        # Those that SQLAlchemy does not see have their values in the text; those of triggers are comments.
        statements.setdefault(statement, [None] * len(re.findall(r"\?", statement)))

    traced: list[Any] = []

    def trace(connection: Any) -> None:
        traced.append(connection.connection.driver_connection)
        traced[-1].set_trace_callback(note_plain)

    event.listen(Engine, "before_cursor_execute", note)
    event.listen(Engine, "begin", trace)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)
        event.remove(Engine, "begin", trace)
        for connection in traced:
            with suppress(sqlite3.ProgrammingError):  # it is closed
                connection.set_trace_callback(None)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Measured, Database]]:
    server = ServerHere(tmp_path_factory.mktemp("plans") / "data")
    with server.running() as database:
        make_runs(Client(server), 2)
        yield Measured(server), database


#: What lists that which waits, of which there is little beside what has ended, and what finds few rows by its nature.
FIND_FEW = ("names like", "ps on a terminal", "ps --all on a terminal", "flows", "status page")


def faults(database: Database, statements: Statements, may_sort: bool = False) -> list[str]:
    """Return the statements that read a large table from end to end, or sort more of it than one run's rows.

    Sorting is fine for what finds few rows by its nature.
    """
    found = []
    for statement, parameters in statements.items():
        if statement.startswith(("SELECT", "WITH", "UPDATE", "DELETE", "INSERT")):
            with database.reading() as connection:
                steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            plan = [(step[1], step[3]) for step in steps]
            if any(scans(step, statement) for _, step in plan) or (not may_sort and sorts(plan)):
                found.append("\n".join([statement, *(step for _, step in plan)]))
    return found


def scans(step: str, statement: str) -> bool:
    if not re.match(rf"SCAN {LARGE}\b", step):
        return False
    # The first rows of an index, without a condition that could pass over many; or an index of the wanted rows only.
    first_rows = " USING " in step and "LIMIT" in statement and not re.search(r"WHERE (?!1 = 1\s)", statement)
    # The newest ends, which passes over those of the last day that are listed elsewhere.
    newest_ends = "USING INDEX flow_run_by_end_time" in step and "LIMIT" in statement
    return not first_rows and not newest_ends and not re.search("INDEX flow_run_(waiting|scheduled|with_log)", step)


def sorts(plan: list[tuple[int, str]]) -> bool:
    for parent, step in plan:
        if step == "USE TEMP B-TREE FOR ORDER BY":
            sources = [each for level, each in plan if level == parent and re.match(rf"(SCAN|SEARCH) {LARGE}\b", each)]
            if sources and not OF_ONE_RUN.search(sources[0]):
                return True
    return False


def test_no_operation_scans_or_sorts_a_large_table(world: tuple[Measured, Database]) -> None:
    measured, database = world
    wrong: dict[str, list[str]] = {}
    for name, operation in measured.operations().items():
        if name.startswith("flowherd "):  # the same requests, from another process
            continue
        with recorded() as statements:
            measured.prepare(name)
            operation()
        assert statements or name == "health", name
        wrong[name] = faults(database, statements, may_sort=name in FIND_FEW)
    assert not any(wrong.values()), "\n\n".join(f"{name}: {each}" for name, found in wrong.items() for each in found)


@pytest.mark.parametrize(
    ("work", "may_sort"),
    [
        (startup_wakes, False),
        (lambda database: schedule_due(database, 1), False),
        (lambda database: prune(database, 1e-6, lambda: False), False),
        # These sort runs that go on.
        (lambda database: Rescue(database, 1, lambda: False).end_zombies(NEVER), True),
        (lambda database: Rescue(database, 1, lambda: False).resurrect(NEVER, 1), True),
    ],
    ids=["wakes at the start", "schedules", "pruning", "zombies", "Lazarus"],
)
def test_no_pass_of_the_server_scans_or_sorts_a_large_table(
    world: tuple[Measured, Database], work: Callable[[Database], object], may_sort: bool
) -> None:
    with recorded() as statements:
        work(world[1])
    assert statements
    assert faults(world[1], statements, may_sort) == []


def test_opening_a_database_again_reads_no_large_table(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "test.sqlite")), recorded() as statements:
        Database(tmp_path / "test.sqlite").close()
    assert statements
    read = [text for text in statements if re.search(rf"FROM {LARGE}\b", text) and not text.startswith("CREATE VIEW")]
    assert read == []
