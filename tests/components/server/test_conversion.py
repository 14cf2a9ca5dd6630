"""Databases of release 0.1.0 are converted without losing or doubling anything, however often that is interrupted."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flowherd.errors import ConfigurationError
from flowherd_server.errors import DatabaseUnusable
from flowherd_server.store.check_database import check_database
from flowherd_server.store.conversion import unfinished_conversion
from flowherd_server.store.database import Database
from flowherd_server.store.tables import SCHEMA_VERSION
from tests.support.old_database import lines_of, old_database, states_of
from tests.support.small_disk import fill_up, mounted

#: Opens the database named by the first argument, each time in a process that is killed after a while, until one of
#: them comes to the end. Prints how each ended, the layout of the file, and whether it still has the old table.
_KILLED_AGAIN_AND_AGAIN = """
import os, signal, sqlite3, sys
from pathlib import Path
from loguru import logger
from flowherd_server.store.conversion import unfinished_conversion
from flowherd_server.store.database import Database
logger.remove()
after_s, status = 0.02, 1
while status:
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, after_s)
        Database(Path(sys.argv[1])).close()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    connection = sqlite3.connect(sys.argv[1])
    [layout] = connection.execute("PRAGMA user_version").fetchone()
    [old] = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'log'").fetchone()
    connection.close()
    print(status, layout, old, flush=True)
    after_s *= 1.25 if old else 1.05
"""

#: Opens the database named by the first argument; killed after the second, seconds.
_KILLED_ONCE = """
import signal, sys
from pathlib import Path
from flowherd_server.store.conversion import unfinished_conversion
from flowherd_server.store.database import Database
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
Database(Path(sys.argv[1])).close()
"""


@pytest.fixture(params=["2m"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A small file system; of 2 MiB, if the test does not choose."""
    with mounted(tmp_path / "small", request.param) as place:
        yield place


def layout(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_every_line_and_state_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "flowherd.sqlite"
    old_database(path, copies=3)
    lines, states = lines_of(path), states_of(path)
    Database(path).close()
    assert lines_of(path) == lines
    assert states_of(path) == states
    report = check_database(path, lambda: None)
    assert report.ok and (report.layout, report.sizes["free"]) == (SCHEMA_VERSION, 0), report
    with closing(sqlite3.connect(path)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        numbers = connection.execute("SELECT max(number), count(*), max(log_lines) FROM log_line, flow_run").fetchone()
    assert not {name for name in tables if "layout" in name}
    assert numbers[0] == numbers[2]


def test_the_old_file_is_kept_beside_it_for_its_owner_only(tmp_path: Path) -> None:
    path, copy = tmp_path / "flowherd.sqlite", tmp_path / "flowherd.sqlite.layout-1"
    old_database(path)
    lines = lines_of(path)
    Database(path).close()
    assert (layout(copy), lines_of(copy), copy.stat().st_mode & 0o777) == (1, lines, 0o600)
    assert {file.name for file in tmp_path.iterdir()} == {path.name, copy.name}


@pytest.mark.slow
def test_a_conversion_that_is_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    path, copy = tmp_path / "flowherd.sqlite", tmp_path / "flowherd.sqlite.layout-1"
    old_database(path, copies=400)
    lines, states = lines_of(path), states_of(path)
    done = subprocess.run(
        [sys.executable, "-c", _KILLED_AGAIN_AND_AGAIN, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    *killed, finished = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    # Release 0.1.0 refuses a file with the number of a newer layout, so it never sees a file without its own table.
    assert len(killed) > 2 and set(killed) <= {(signal.SIGALRM, 1, 1), (signal.SIGALRM, SCHEMA_VERSION, 0)}, done.stdout
    assert finished == (0, SCHEMA_VERSION, 0)
    assert lines_of(path) == lines
    assert states_of(path) == states
    assert check_database(path, lambda: None).ok
    assert lines_of(copy) == lines


def test_without_room_for_the_copy_nothing_is_changed_and_it_is_said_what_to_do(small_disk: Path) -> None:
    path = small_disk / "flowherd.sqlite"
    old_database(path)
    with pytest.raises(ConfigurationError, match=r"Nothing was changed: there is no room .*; make room, or move"):
        Database(path)
    assert layout(path) == 1
    assert lines_of(path)
    assert not list(small_disk.glob("*layout*"))


@pytest.mark.slow
@pytest.mark.parametrize("small_disk", ["160m"], indirect=True)
def test_a_disk_that_fills_in_the_middle_costs_nothing_and_the_next_start_goes_on(small_disk: Path) -> None:
    path = small_disk / "flowherd.sqlite"
    old_database(path, copies=400)
    lines, states = lines_of(path), states_of(path)
    after_s = 0.02
    while layout(path) != SCHEMA_VERSION and after_s < 10:  # then the copy is complete, and the conversion has begun
        subprocess.run([sys.executable, "-c", _KILLED_ONCE, str(path), str(after_s)], timeout=60, check=False)
        after_s *= 1.2
    with closing(sqlite3.connect(path)) as connection:
        assert unfinished_conversion(connection)
    ballast = fill_up(small_disk)
    with pytest.raises(DatabaseUnusable, match="its file system is full"):
        Database(path)
    ballast.unlink()
    Database(path).close()
    assert lines_of(path) == lines
    assert states_of(path) == states
    assert check_database(path, lambda: None).ok
