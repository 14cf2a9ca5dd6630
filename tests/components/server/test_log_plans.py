"""Reading a log costs what is read of it: the queries of clients use the indexes of the table behind the view."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import Select

from flowherd_server.graphql.compiler import Arguments, Measure, Parents, measure_rows, select_rows
from flowherd_server.runs.live_fields import LAST_LINE
from flowherd_server.store.database import Database
from flowherd_server.store.views import FLOW_RUN_STATE, LOG

_OF_RUN = {"flow_run_id": {"_eq": "r"}}
_NEWEST = [{"timestamp": "desc"}]
_BY_TIME, _BY_ID = [{"timestamp": "asc"}], [{"id": "asc"}]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with closing(Database(tmp_path_factory.mktemp("plans") / "test.sqlite")) as database:
        yield database


def plan(database: Database, query: Select[object]) -> str:
    with database.reading() as connection:
        text = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
        return "\n".join(row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))


def logs(*, parents: Parents | None = None, **arguments: object) -> Select[object]:
    return select_rows(LOG, ["id", "message"], Arguments(**arguments), parents)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "used"),
    [
        (logs(where=_OF_RUN, order_by=_BY_TIME, limit=1000), "log_line_by_time (run=?)"),
        (logs(where=_OF_RUN, order_by=_NEWEST, limit=10), "log_line_by_time (run=?)"),
        (
            logs(where={**_OF_RUN, "timestamp": {"_gte": 5}, "id": {"_lte": 7}}, order_by=_BY_TIME, limit=1000),
            "log_line_by_time (run=? AND timestamp>?)",
        ),
        (logs(where={**_OF_RUN, "id": {"_gt": 7}}, order_by=_BY_ID, limit=9), "log_line_by_arrival (run=? AND id>?)"),
        (logs(where=_OF_RUN, order_by=[{"id": "desc"}], limit=1), "log_line_by_arrival (run=?)"),
        (logs(where={"id": {"_eq": (3 << 32) + 7}}), "log_line_by_arrival (run=? AND id=?)"),
        (logs(where={"task_run_id": {"_eq": "t"}}, order_by=_BY_TIME), "log_line_by_task_run (task_run=?)"),
        (logs(parents=Parents("flow_run_id", ["r"]), order_by=_BY_TIME, limit=5), "log_line_by_time (run=?)"),
        (logs(parents=Parents("flow_run_id", ["r", "s"]), order_by=_BY_TIME, limit=5), "(run=?"),
        (logs(parents=Parents("task_run_id", ["t", "u"])), "log_line_by_task_run (task_run=?)"),
        (measure_rows(LOG, [Measure("count")], Arguments(where=_OF_RUN)), "(run=?)"),
        (
            select_rows(FLOW_RUN_STATE, ["state"], Arguments(where=_OF_RUN, order_by=[{"version": "asc"}])),
            "run_state USING PRIMARY KEY (run=?)",
        ),
        (
            select_rows(FLOW_RUN_STATE, ["state"], Arguments(where={"id": {"_eq": "1-0000000a0001"}})),
            "run_state USING PRIMARY KEY (run=?)",
        ),
    ],
)
def test_a_query_of_a_runs_lines_or_states_reads_no_other_runs(
    database: Database, query: Select[object], used: str
) -> None:
    steps = plan(database, query)
    assert used in steps, steps
    assert not [step for step in steps.splitlines() if step.startswith("SCAN") and "VIRTUAL TABLE" not in step], steps
    # With a limit, an index has the rows in their order; those of several runs are put together after it.
    assert "LIMIT" not in str(query).rpartition(")")[2] or "USE TEMP B-TREE FOR ORDER BY" not in steps, steps


def test_the_last_line_of_a_run_is_found_without_the_rest_of_its_log(database: Database) -> None:
    with database.reading() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {LAST_LINE}", (7,)).all()
    assert [row[-1] for row in rows] == ["SEARCH log_line USING INDEX log_line_by_arrival (run=?)"]
