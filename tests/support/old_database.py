"""A database of layout 1, as release 0.1.0 left it, with as many log lines as a test needs."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

_FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "database-1.sqlite.gz"
#: Columns of a line that stay the same when the database is converted; its number does not.
LINE = ("flow_run_id", "task_run_id", "timestamp", "name", "level", "message", "info", "line_id")

#: (name, level, info, line_id) of lines of every kind.
KINDS: list[tuple[str | None, str, Any, str | None]] = [
    ("stdout", "INFO", {"stream": "stdout"}, "0123456789ab:0"),
    ("stderr", "ERROR", {"stream": "stderr"}, "0123456789ab:75"),
    ("flowherd", "INFO", {"stream": "flowherd"}, "0123456789ab:deployed"),
    ("my.logger", "WARNING", {"stream": "log", "taskName": "x"}, "0123456789ab:9223372036854775807"),
    ("prefect", "NOTICE", None, None),
    (None, "Level 25", None, None),
    (None, "Level 20", None, None),
    ("stdout", "DEBUG", {"stream": "stderr"}, "7"),
    ("a", "CRITICAL", ["stdout"], "007"),
    ("a", "NOTSET", 1, ":7"),
    ("a", "INFO", "stdout", "x:y:7"),
    ("a", "INFO", {"stream": "else"}, "9223372036854775808"),
    ("a", "WARN", {"stream": ["stdout"]}, "a line of its own"),
]


def old_database(path: Path, copies: int = 1) -> None:
    """Make the file, with a line of each kind in each of three runs, `copies` times."""
    path.write_bytes(gzip.decompress(_FIXTURE.read_bytes()))
    with closing(sqlite3.connect(path)) as connection:
        runs = [row[0] for row in connection.execute("SELECT id FROM flow_run ORDER BY seq LIMIT 3")]
        connection.executemany(
            f"INSERT INTO log ({', '.join(LINE)}) VALUES ({', '.join('?' for _ in LINE)})",
            _lines(runs, copies),
        )
        connection.commit()


def _lines(runs: list[str], copies: int) -> Iterable[tuple[Any, ...]]:
    for number in range(copies):
        for run in runs:
            for place, (name, level, info, line_id) in enumerate(KINDS):
                # Each copy is another attempt, so that ids are unique.
                key = line_id if line_id is None or not number else f"{number}-{line_id}"
                text = None if info is None else json.dumps(info, separators=(",", ":"))
                yield (run, None, 1_795_459_686_565_012 - place, name, level, f"line {number} {place}", text, key)


def lines_of(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the lines of each run in the order of their arrival, of a database of any layout."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    with closing(sqlite3.connect(path)) as connection:
        for row in connection.execute(f"SELECT {', '.join(LINE)} FROM log ORDER BY id"):
            found.setdefault(row[0], []).append(row)
    return found


def states_of(path: Path) -> list[tuple[Any, ...]]:
    """Return the states of all runs, of a database of any layout."""
    columns = "flow_run_id, version, state, timestamp, start_time, message, serialized_state, created"
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.execute(f"SELECT {columns} FROM flow_run_state ORDER BY flow_run_id, version"))
