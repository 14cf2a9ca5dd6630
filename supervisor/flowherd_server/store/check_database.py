"""Checks a database file: its structure, and that its rows agree with each other. Also while a server uses it."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flowherd.errors import ConfigurationError
from flowherd_server.store.conversion import LAST_OLD_LAYOUT, unfinished_conversion
from flowherd_server.store.log_codes import LEVEL_COUNTERS
from flowherd_server.store.tables import SCHEMA_VERSION

_BUSY_TIMEOUT_S = 10.0
#: Most problems that one check names.
_MOST_PROBLEMS = 20
#: Most rows that refer to nothing and are counted.
_MOST_DANGLING = 100_000
#: Number of SQLite's instructions between two calls of `still_working`.
_INSTRUCTIONS = 5_000_000
_COUNTED = ("flow", "flow_run", "task_run", "run_state", "log_line", "agent")


@dataclass(frozen=True)
class Check:
    """One check and the problems that it found."""

    check: str
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether it found no problem."""
        return not self.problems


@dataclass(frozen=True)
class Report:
    """What is known of one database file."""

    database: str
    layout: int
    checks: list[Check]
    #: Sizes in bytes: of the file, of the free pages in it, and of its write-ahead log.
    sizes: dict[str, int]
    #: Number of rows by table.
    rows: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether no check found a problem."""
        return all(check.ok for check in self.checks)


def check_database(path: Path, still_working: Callable[[], None]) -> Report:
    """Check the database `path` in one read transaction. `still_working` is called about once a second meanwhile.

    Raises ConfigurationError if there is no such database, or if it cannot be read at all.
    """
    if not path.is_file():
        raise ConfigurationError(f"there is no database {path}; name its directory with --data-dir")
    try:
        with contextlib.closing(_open(path)) as connection:
            connection.set_progress_handler(_once_a_second(still_working), _INSTRUCTIONS)
            connection.execute("BEGIN")
            layout: int = connection.execute("PRAGMA user_version").fetchone()[0]
            checks = list(_checks(connection, layout))
            return Report(str(path), layout, checks, _sizes(connection, path), _rows(connection))
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path} cannot be checked: {error}") from error


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=_BUSY_TIMEOUT_S)
    connection.isolation_level = None
    connection.execute("PRAGMA query_only=ON")
    return connection


def _once_a_second(report: Callable[[], None]) -> Callable[[], int]:
    next_s = time.monotonic() + 1

    def handler() -> int:
        nonlocal next_s
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + 1
            report()
        return 0

    return handler


def _checks(connection: sqlite3.Connection, layout: int) -> Iterator[Check]:
    yield Check("layout", list(_layout_problems(connection, layout)))
    try:
        yield _structure(connection)
        yield _references(connection)
        if layout == SCHEMA_VERSION:
            yield Check("counters", _wrong_counters(connection))
            yield Check("states", _wrong_states(connection))
            yield Check("counts", _wrong_counts(connection))
    except sqlite3.DatabaseError as error:
        yield Check("reading", [f"the file cannot be read to its end: {error}"])


def _layout_problems(connection: sqlite3.Connection, layout: int) -> Iterator[str]:
    if layout > SCHEMA_VERSION:
        yield f"layout {layout} is from a newer flowherd; this one knows {SCHEMA_VERSION}"
    elif layout == 0:
        yield "no flowherd server has written this file"
    elif layout > LAST_OLD_LAYOUT and unfinished_conversion(connection):
        yield "its conversion from an earlier release was interrupted; start the server, which goes on with it"


def _structure(connection: sqlite3.Connection) -> Check:
    found = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_MOST_PROBLEMS})")]
    return Check("structure", [] if found == ["ok"] else found)


def _references(connection: sqlite3.Connection) -> Check:
    rows = connection.execute("PRAGMA foreign_key_check").fetchmany(_MOST_DANGLING)
    counts = Counter((row[0], row[2]) for row in rows)
    least = "at least " if len(rows) == _MOST_DANGLING else ""
    problems = [
        f"{least}{count} rows of {child} refer to rows of {parent} that do not exist"
        for (child, parent), count in sorted(counts.items())
    ]
    return Check("references", problems)


def _wrong_counters(connection: sqlite3.Connection) -> list[str]:
    highest, counted, differ = None, [], []
    for column, lowest in LEVEL_COUNTERS.items():
        below = "" if highest is None else f" AND level < {highest}"
        counted.append(
            f"sum(level >= {lowest}{below}) AS {column}" if lowest else f"sum(level < {highest}) AS {column}"
        )
        differ.append(f"flow_run.{column} <> coalesce(found.{column}, 0)")
        highest = lowest
    rows = connection.execute(
        f"SELECT flow_run.id, flow_run.log_lines, coalesce(found.log_lines, 0) FROM flow_run LEFT JOIN "
        f"(SELECT run, count(*) AS log_lines, {', '.join(counted)} FROM log_line GROUP BY run) AS found "
        f"ON found.run = flow_run.seq WHERE flow_run.log_lines <> coalesce(found.log_lines, 0) OR {' OR '.join(differ)}"
    ).fetchmany(_MOST_PROBLEMS)
    return [
        f"run {row[0]}: {row[1]} log lines are counted and {row[2]} are stored, or their levels differ" for row in rows
    ]


def _wrong_states(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT flow_run.id, flow_run.state, flow_run.version, run_state.state FROM flow_run LEFT JOIN run_state "
        "ON run_state.run = flow_run.seq AND run_state.version = flow_run.version "
        "WHERE run_state.state IS NOT flow_run.state"
    ).fetchmany(_MOST_PROBLEMS)
    return [f"run {row[0]} is {row[1]}, but its history has {row[3]} as version {row[2]}" for row in rows]


def _wrong_counts(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT flow_id, state, sum(kept), sum(found) FROM "
        "(SELECT flow_id, state, runs AS kept, 0 AS found FROM flow_run_count "
        "UNION ALL SELECT flow_id, state, 0, count(*) FROM flow_run GROUP BY flow_id, state) "
        "GROUP BY flow_id, state HAVING sum(kept) <> sum(found)"
    ).fetchmany(_MOST_PROBLEMS)
    return [f"flow {row[0]}: {row[2]} {row[1]} runs are counted and there are {row[3]}" for row in rows]


def _sizes(connection: sqlite3.Connection, path: Path) -> dict[str, int]:
    page, free = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "freelist_count"))
    wal = path.with_name(path.name + "-wal")
    return {
        "file": path.stat().st_size,
        "free": page * free,
        "write_ahead_log": wal.stat().st_size if wal.exists() else 0,
    }


def _rows(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the number of rows of some tables; of a damaged file, of those that can be counted."""
    known = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    rows = {}
    for name in _COUNTED:
        if name in known:
            with contextlib.suppress(sqlite3.DatabaseError):
                rows[name] = connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
    return rows
