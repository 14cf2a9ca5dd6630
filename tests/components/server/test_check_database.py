"""The check of a database finds what is wrong in it, and says which row or file it is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flowherd.errors import ConfigurationError
from flowherd_server.store.check_database import Report, check_database
from flowherd_server.store.database import Database
from flowherd_server.store.tables import SCHEMA_VERSION
from tests.support.old_database import old_database

_A_RUN = "(SELECT max(run) FROM log_line)"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checked") / "flowherd.sqlite"
    old_database(path, copies=20)
    Database(path).close()
    return path


@pytest.fixture
def path(filled: Path, tmp_path: Path) -> Path:
    path = tmp_path / "flowherd.sqlite"
    path.write_bytes(filled.read_bytes())
    return path


def checked(path: Path) -> Report:
    return check_database(path, lambda: None)


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def test_a_good_database_has_no_problem_and_its_rows_and_sizes_are_counted(path: Path) -> None:
    report = checked(path)
    assert report.ok, report
    assert [check.check for check in report.checks] == [
        "layout",
        "structure",
        "references",
        "counters",
        "states",
        "counts",
    ]
    assert (report.rows["flow_run"], report.rows["log_line"]) == (5, 20 * 13 * 3 + 2)
    assert report.sizes["file"] == path.stat().st_size


@pytest.mark.parametrize(
    ("statement", "check", "problem"),
    [
        (f"UPDATE flow_run SET log_lines = 7 WHERE seq = {_A_RUN}", "counters", "7 log lines are counted and 2"),
        ("UPDATE flow_run SET log_error = 0, log_info = log_info + log_error", "counters", "or their levels differ"),
        (f"DELETE FROM log_line WHERE run = {_A_RUN} AND number = 9", "counters", " are stored"),
        (
            "UPDATE flow_run SET state = 'Running' WHERE state = 'Success'",
            "states",
            "is Running, but its history has Su",
        ),
        ("UPDATE flow_run_count SET runs = runs + 5", "counts", " runs are counted and there are "),
        (f"DELETE FROM flow_run WHERE seq = {_A_RUN}", "references", " refer to rows of flow_run that do not exist"),
        (f"PRAGMA user_version={SCHEMA_VERSION + 1}", "layout", "from a newer flowherd"),
        ("CREATE TABLE log_of_layout_2 (id)", "layout", "was interrupted; start the server"),
    ],
)
def test_rows_that_do_not_agree_are_named(path: Path, statement: str, check: str, problem: str) -> None:
    change(path, statement)
    report = checked(path)
    found = {each.check: each.problems for each in report.checks if not each.ok}
    assert check in found and problem in found[check][0], report
    assert not report.ok


def test_an_overwritten_part_of_the_file_is_found(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 8192)
    report = checked(path)
    assert {each.check for each in report.checks if not each.ok} & {"structure", "reading"}, report


def test_a_file_that_is_no_database_or_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no database"):
        checked(tmp_path / "flowherd.sqlite")
    (tmp_path / "flowherd.sqlite").write_text("x" * 5000)
    with pytest.raises(ConfigurationError, match="cannot be checked"):
        checked(tmp_path / "flowherd.sqlite")


def test_a_database_of_an_earlier_release_can_be_checked(path: Path) -> None:
    old_database(path)
    report = checked(path)
    assert report.ok and report.layout == 1
