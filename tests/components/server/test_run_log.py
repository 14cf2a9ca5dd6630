"""Which lines of a log a page shows, from a database: the windows, the choices, the search, and the whole as text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from flowherd_server.pages.run_log import (
    LAST,
    MOST_IN_PAGE,
    LogRequest,
    LogView,
    lines_after,
    plain_lines,
    read_log_request,
    view_log,
)
from flowherd_server.store.database import FILE_NAME, Database
from flowherd_server.store.log_lines import NewLine, store_lines
from flowherd_server.store.plain import find_row
from flowherd_server.store.tables import FLOW_RUN
from tests.support.many_runs import SECOND_US, Filling

LINES = 3000


def a_line(run: str, number: int, start: int) -> NewLine:
    """Line `number` of the log: each 100th is an error of logging, each 500th has a colour in the word `zstd`."""
    at = start + number * SECOND_US
    if number % 500 == 0:
        return NewLine(run, None, at, None, "INFO", f"{number} z\x1b[31mstd 50% off", stream="stdout")
    if number % 100 == 0:
        return NewLine(run, None, at, "app", "ERROR", f"{number} failed", stream="log")
    if number == 7:
        return NewLine(run, None, at, None, "INFO", "x" * 50_000, stream="stdout")
    return NewLine(run, None, at, None, "INFO", f"{number} of stdout", stream="stdout")


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, dict[str, str]]]:
    """A database with a run of 3,000 lines, one of 3 and one of none."""
    data_dir: Path = tmp_path_factory.mktemp("logs") / "data"
    filling = Filling(data_dir)
    flow = filling.flow("backup")
    runs = {name: filling.run(flow, "Running", started_s=60) for name in ("long", "short", "empty")}
    filling.write()
    with closing(Database(data_dir / FILE_NAME)) as database:
        with database.writing() as connection:
            lines = [a_line(runs["long"], n, filling.now) for n in range(1, LINES + 1)]
            lines += [a_line(runs["short"], n, filling.now) for n in (1, 2, 3)]
            store_lines(connection, lines, filling.now)
        yield database, runs


@pytest.fixture
def connection(logged: tuple[Database, dict[str, str]]) -> Iterator[Connection]:
    with logged[0].reading() as connection:
        yield connection


@pytest.fixture
def run_row(logged: tuple[Database, dict[str, str]], connection: Connection) -> dict[str, Any]:
    row = find_row(connection, FLOW_RUN, logged[1]["long"])
    assert row is not None
    return row


def shown(view: LogView) -> list[tuple[int, int, int]]:
    """Return for each part how many lines are not shown before it, and the numbers of its first and last line."""
    return [(part.hidden, part.rows[0].number, part.rows[-1].number) for part in view.parts]


def test_the_first_and_the_last_lines_are_shown_with_how_many_are_between(
    connection: Connection, run_row: dict[str, Any]
) -> None:
    view = view_log(connection, run_row, LogRequest())
    assert shown(view) == [(0, 1, 200), (1800, 2001, 3000)]
    assert view.lines == LINES
    assert view.counts == {"all": 3000, "info": 2976, "warning": 0, "error": 24}
    assert view.last == LINES


def test_a_short_log_is_shown_whole_and_an_empty_one_has_no_part(
    connection: Connection, logged: tuple[Database, dict[str, str]]
) -> None:
    rows = [find_row(connection, FLOW_RUN, logged[1][name]) for name in ("short", "empty")]
    views = [view_log(connection, row, LogRequest()) for row in rows if row is not None]
    assert [shown(view) for view in views] == [[(0, 1, 3)], []]


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (1000, [(0, 1, 200), (699, 900, 1100), (900, 2001, 3000)]),
        (250, [(0, 1, 350), (1650, 2001, 3000)]),
        (1950, [(0, 1, 200), (1649, 1850, 3000)]),
        (99_999, [(0, 1, 200), (1800, 2001, 3000)]),
    ],
)
def test_a_link_to_a_line_shows_what_is_around_it(
    connection: Connection, run_row: dict[str, Any], line: int, parts: list[tuple[int, int, int]]
) -> None:
    assert shown(view_log(connection, run_row, LogRequest(line=line))) == parts


def test_more_of_the_begin_is_shown_on_request(connection: Connection, run_row: dict[str, Any]) -> None:
    assert shown(view_log(connection, run_row, LogRequest(first=400))) == [(0, 1, 400), (1600, 2001, 3000)]
    assert shown(view_log(connection, run_row, LogRequest(first=3000))) == [(0, 1, 3000)]


def test_a_level_and_a_stream_choose_lines(connection: Connection, run_row: dict[str, Any]) -> None:
    errors = view_log(connection, run_row, LogRequest(level="error"))
    assert [row.number for part in errors.parts for row in part.rows] == [
        number for number in range(100, LINES + 1, 100) if number % 500
    ]
    assert errors.parts[0].rows[0].source == "ERROR"
    assert errors.parts[0].rows[0].message == "app: 100 failed"
    (part,) = view_log(connection, run_row, LogRequest(stream="stdout")).parts
    assert part.hidden == 2976 - LAST
    assert len(part.rows) == LAST
    assert part.rows[-1].number == LINES


def test_a_search_counts_in_the_whole_log_and_steps_through_it(connection: Connection, run_row: dict[str, Any]) -> None:
    found = view_log(connection, run_row, LogRequest(search="FAILED", line=1000)).found
    assert found is not None
    assert (found.count, found.place, found.line, found.previous, found.next) == (24, 9, 1100, 900, 1200)
    last = view_log(connection, run_row, LogRequest(search="failed")).found
    assert last is not None
    assert (last.place, last.line, last.next) == (24, 2900, 100)


def test_the_line_that_a_search_stands_at_is_shown(connection: Connection, run_row: dict[str, Any]) -> None:
    view = view_log(connection, run_row, LogRequest(search="failed", line=1000))
    assert any(row.number == 1100 for part in view.parts for row in part.rows)


@pytest.mark.parametrize(("text", "count"), [("zstd 50%", 6), ("50%", 6), ("5_%", 0), ("31m", 0), ("\\", 0)])
def test_a_search_finds_text_as_it_is_shown_and_takes_no_character_for_a_pattern(
    connection: Connection, run_row: dict[str, Any], text: str, count: int
) -> None:
    found = view_log(connection, run_row, LogRequest(search=text)).found
    assert found is not None
    assert found.count == count


def test_a_long_line_is_cut_and_says_by_how_much(connection: Connection, run_row: dict[str, Any]) -> None:
    row = view_log(connection, run_row, LogRequest()).parts[0].rows[6]
    assert len(row.message) + row.cut == 50_000
    assert len(row.message) <= 4000


def test_new_lines_are_those_after_the_last_one(connection: Connection, run_row: dict[str, Any]) -> None:
    assert [row.number for row in lines_after(connection, run_row, LINES - 2)] == [2999, 3000]
    assert lines_after(connection, run_row, 0)[0].number == LINES - LAST + 1


def test_the_whole_log_is_text_in_pieces(connection: Connection, run_row: dict[str, Any]) -> None:
    pieces, after = [], 0
    while (found := plain_lines(connection, run_row["seq"], after))[1]:
        pieces.append(found[0])
        after = found[1]
    assert len(pieces) > 1
    lines = "".join(pieces).splitlines()
    assert len(lines) == LINES
    assert lines[499].endswith("stdout    500 zstd 50% off")
    assert len(lines[6]) > 50_000
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  ERROR     app: 100 failed", lines[99])


def test_an_address_that_is_wrong_shows_the_log_as_if_nothing_was_asked() -> None:
    wrong = {"level": "loud", "stream": "../x", "line": "-1", "first": "1e9", "search": "x" * 500}
    assert read_log_request(wrong) == LogRequest(search="x" * 200)
    assert read_log_request({"first": "99999"}).first == MOST_IN_PAGE


def test_the_address_of_a_request_names_only_what_is_asked() -> None:
    request = read_log_request({"level": "error", "search": "a&b"})
    assert request.address() == {"level": "error", "search": "a&b"}
    assert request.address(level="all", line=5) == {"search": "a&b", "line": 5}
