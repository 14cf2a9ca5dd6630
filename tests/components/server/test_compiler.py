"""The dialect's rules for Hasura's arguments, on the rows of a flow with five runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import insert, select

from flowherd_server.errors import Refused
from flowherd_server.graphql.arguments import Arguments, Parents
from flowherd_server.graphql.compiler import Measure, measure_rows, select_rows
from flowherd_server.store.database import Database
from flowherd_server.store.log_lines import NewLine, store_lines
from flowherd_server.store.tables import FLOW, FLOW_GROUP, FLOW_RUN, PROJECT, TASK, TASK_RUN, TENANT
from flowherd_server.store.views import LOG

#: name, state, start time, labels
RUNS = [
    ("one", "Scheduled", 100, ["a"]),
    ("two", "Running", None, ["a", "b"]),
    ("three", "Scheduled", 50, []),
    ("Four_x", "Failed", None, ["b"]),
    ("five", "Running", 70, []),
]


@pytest.fixture
def filled(database: Database) -> Database:
    with database.writing() as connection:
        tenant = connection.execute(select(TENANT.c.id)).scalar_one()
        common = {"tenant_id": tenant, "created": 0}
        connection.execute(insert(PROJECT), {**common, "id": "p", "name": "project"})
        group = {**common, "id": "g", "name": "g", "default_parameters": {}, "settings": {}}
        connection.execute(insert(FLOW_GROUP), group)
        connection.execute(insert(FLOW), [_flow(common, "f", "flow"), _flow(common, "e", "empty")])
        task = {"id": "t", "flow_id": "f", "slug": "s", "mapped": False, "tags": ["x"], "created": 0}
        connection.execute(insert(TASK), task)
        connection.execute(insert(FLOW_RUN), [_run(common, *run) for run in RUNS])
        for key, cache_key in (("one", None), ("two", "key")):
            connection.execute(insert(TASK_RUN), _task_run(key, cache_key))
        lines = [(run, at) for run in ("one", "two") for at in (3, 1, 2)]
        store_lines(connection, [NewLine(run, None, at, None, "INFO", f"{run}-{at}") for run, at in lines], 0)
    return database


def _flow(common: dict[str, Any], key: str, name: str) -> dict[str, Any]:
    empty = {"settings": {}, "parameters": [], "serialized_flow": {}}
    known = {"id": key, "name": name, "project_id": "p", "flow_group_id": "g", "version_group_id": key, "version": 1}
    return {**common, **empty, **known, "archived": False, "is_schedule_active": False, "updated": 0}


def _run(common: dict[str, Any], name: str, state: str, start: int | None, labels: list[str]) -> dict[str, Any]:
    known = {"id": name, "name": name, "flow_id": "f", "state": state, "state_start_time": start, "labels": labels}
    times = {"scheduled_start_time": 0, "state_timestamp": 0, "updated": 0, "times_resurrected": 0}
    return {**common, **known, **times, "parameters": {}, "version": 1, "serialized_state": {}, "auto_scheduled": False}


def _task_run(key: str, cache_key: str | None) -> dict[str, Any]:
    known = {"id": f"task-{key}", "flow_run_id": key, "task_id": "t", "map_index": -1, "cache_key": cache_key}
    times = {"state_timestamp": 0, "created": 0, "updated": 0, "state_start_time": 10 if key == "one" else None}
    return {**known, **times, "version": 0, "state": "Pending", "serialized_state": {}}


def names(database: Database, **arguments: Any) -> list[str]:
    with database.reading() as connection:
        return list(connection.execute(select_rows(FLOW_RUN, ["name"], Arguments(**arguments))).scalars())


ALL = [run[0] for run in RUNS]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (None, ALL),
        ({}, ALL),
        ({"state": {"_eq": "Running"}}, ["two", "five"]),
        ({"state": {"_neq": "Running"}}, ["one", "three", "Four_x"]),
        ({"state": {"_in": ["Failed", "Running"]}}, ["two", "Four_x", "five"]),
        ({"state": {"_in": []}}, []),
        ({"state": {"_nin": ["Failed", "Running"]}}, ["one", "three"]),
        ({"state": {"_nin": []}}, ALL),
        ({"state_start_time": {"_lt": 70}}, ["three"]),
        ({"state_start_time": {"_lte": 70}}, ["three", "five"]),
        ({"state_start_time": {"_gt": 70}}, ["one"]),
        ({"state_start_time": {"_gte": 70}}, ["one", "five"]),
        ({"state_start_time": {"_gte": 60, "_lte": 80}}, ["five"]),
        ({"state_start_time": {"_is_null": True}}, ["two", "Four_x"]),
        ({"state_start_time": {"_is_null": False}}, ["one", "three", "five"]),
        # a comparison with a stored NULL is not true, and neither is its opposite
        ({"state_start_time": {"_neq": 50}}, ["one", "five"]),
        ({"_not": {"state_start_time": {"_eq": 50}}}, ["one", "five"]),
        ({"state_start_time": {"_nin": [50]}}, ["one", "five"]),
        # a given null is no condition
        ({"state": {"_eq": None}}, ALL),
        ({"state": None}, ALL),
        ({"state": {"_in": None, "_eq": "Failed"}}, ["Four_x"]),
        ({"_and": None, "_or": None, "_not": None, "flow": None}, ALL),
        # and, or, not
        ({"_and": [{"state": {"_eq": "Running"}}, {"name": {"_eq": "two"}}]}, ["two"]),
        ({"_and": {"state": {"_eq": "Running"}}}, ["two", "five"]),
        ({"_or": {"state": {"_eq": "Failed"}}}, ["Four_x"]),
        ({"_or": [{"state": {"_eq": "Failed"}}, {"name": {"_eq": "one"}}]}, ["one", "Four_x"]),
        ({"_or": [{"state": {"_eq": "Failed"}}, {}]}, ALL),
        ({"_or": []}, []),
        ({"_and": []}, ALL),
        ({"_and": [None, {"name": {"_eq": "one"}}]}, ["one"]),
        ({"_not": {"state": {"_in": ["Failed", "Running"]}}}, ["one", "three"]),
        ({"state": {"_eq": "Running"}, "name": {"_eq": "two"}}, ["two"]),
        # LIKE
        ({"name": {"_like": "%o%"}}, ["one", "two", "Four_x"]),
        ({"name": {"_like": "f%"}}, ["five"]),
        ({"name": {"_ilike": "f%"}}, ["Four_x", "five"]),
        ({"name": {"_like": "_____"}}, ["three"]),
        ({"name": {"_like": "%\\_%"}}, ["Four_x"]),
        # JSON
        ({"labels": {"_contains": ["a"]}}, ["one", "two"]),
        ({"labels": {"_contains": "b"}}, ["two", "Four_x"]),
        ({"labels": {"_contains": []}}, ALL),
        ({"labels": {"_eq": ["a", "b"]}}, ["two"]),
        ({"labels": {"_neq": []}}, ["one", "two", "Four_x"]),
        ({"labels": {"_in": [["a"], ["b"]]}}, ["one", "Four_x"]),
        # relationships: a match, or EXISTS
        ({"flow": {"name": {"_eq": "flow"}}}, ALL),
        ({"flow": {"project": {"name": {"_eq": "other"}}}}, []),
        ({"task_runs": {"state_start_time": {"_lte": 10}}}, ["one"]),
        ({"task_runs": {}}, ["one", "two"]),
        ({"_not": {"task_runs": {}}}, ["three", "Four_x", "five"]),
        ({"task_runs": {"task": {"slug": {"_eq": "s"}}, "flow_run": {"state": {"_eq": "Running"}}}}, ["two"]),
    ],
)
def test_where_selects(filled: Database, where: Any, expected: list[str]) -> None:
    assert names(filled, where=where) == expected
    with filled.reading() as connection:
        count = measure_rows(FLOW_RUN, [Measure("count")], Arguments(where=where))
        assert connection.execute(count).scalar_one() == len(expected)


def test_a_cache_key_compared_with_null_matches_nothing(
    filled: Database,
) -> None:
    with filled.reading() as connection:
        arguments = Arguments(where={"cache_key": {"_eq": None}})
        assert connection.execute(select_rows(TASK_RUN, ["id"], arguments)).all() == []


def test_a_list_may_be_longer_than_sqlites_limit_of_parameters(filled: Database) -> None:
    assert names(filled, where={"name": {"_in": [f"x{n}" for n in range(50_000)] + ["two"]}}) == ["two"]


def test_a_condition_that_is_nested_too_deeply_is_refused(filled: Database) -> None:
    where: dict[str, Any] = {}
    for _ in range(40):
        where = {"_not": where}
    with pytest.raises(Refused, match="nested"):
        names(filled, where=where)


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ([], ALL),
        ([{"state_start_time": "asc"}], ["three", "five", "one", "two", "Four_x"]),
        ([{"state_start_time": "desc"}], ["Four_x", "two", "one", "five", "three"]),
        ([{"state_start_time": "asc_nulls_first"}], ["two", "Four_x", "three", "five", "one"]),
        ([{"state_start_time": "desc_nulls_last"}], ["one", "five", "three", "Four_x", "two"]),
        ([{"state": "asc", "name": "desc"}], ["Four_x", "two", "five", "three", "one"]),
        ([{"state": "asc"}, {"name": "asc"}], ["Four_x", "five", "two", "one", "three"]),
        ([{"flow": {"project": {"name": "asc"}}}, {"name": "asc"}], ["Four_x", "five", "one", "three", "two"]),
        ([{"state": None, "name": "asc"}], ["Four_x", "five", "one", "three", "two"]),
    ],
)
def test_rows_are_sorted_as_postgres_sorts_and_ties_in_the_order_of_insertion_or_newest_first(
    filled: Database, order_by: Any, expected: list[str]
) -> None:
    assert names(filled, order_by=order_by) == expected


def test_limit_and_offset_select_a_range(filled: Database) -> None:
    assert names(filled, limit=2) == ["one", "two"]
    assert names(filled, limit=2, offset=3) == ["Four_x", "five"]
    assert names(filled, offset=3) == ["Four_x", "five"]
    assert names(filled, limit=0) == []


@pytest.mark.parametrize("arguments", [{"limit": -1}, {"offset": -1}])
def test_negative_limits_are_refused(filled: Database, arguments: dict[str, int]) -> None:
    with pytest.raises(Refused, match="negative"):
        names(filled, **arguments)


def test_distinct_on_keeps_the_first_row_of_each_value_in_the_order(filled: Database) -> None:
    order = [{"state": "asc", "name": "desc"}]
    assert names(filled, distinct_on=["state"], order_by=order) == ["Four_x", "two", "three"]
    assert names(filled, distinct_on=["state"], order_by=order, limit=1, offset=1) == ["two"]


ALTERNATIVES = [
    {"state": {"_in": ["Failed", "Running", "Running", None, "Cancelled"]}},
    {"flow": {"name": {"_eq": "flow"}}, "state": {"_neq": "Scheduled"}},
    {"flow": {"_and": [{"id": {"_eq": "f"}}, {"name": {"_neq": "x"}}]}},
    {"flow_id": {"_in": ["e", "f"]}, "_or": [{"state": {"_eq": "Running"}}, {"name": {"_eq": "one"}}]},
]


@pytest.mark.parametrize("where", ALTERNATIVES, ids=str)
@pytest.mark.parametrize("word", ["asc", "desc", "asc_nulls_first", "desc_nulls_last"])
def test_the_first_rows_are_the_same_if_they_are_taken_for_each_value_separately(
    filled: Database, where: dict[str, Any], word: str
) -> None:
    order = [{"start_time": word}]
    query = str(select_rows(FLOW_RUN, ["name"], Arguments(where=where, order_by=order, limit=2)))
    assert "JOIN flow_run" in query
    whole = names(filled, where=where, order_by=order)
    for limit in range(4):
        for offset in range(3):
            found = names(filled, where=where, order_by=order, limit=limit, offset=offset)
            assert found == whole[offset : offset + limit]


def test_the_newest_of_each_value_are_found_without_ranking_all_rows(filled: Database) -> None:
    order = [{"state": "asc"}, {"created": "desc"}]
    arguments = Arguments(distinct_on=["state"], order_by=order, where={"name": {"_neq": "Four_x"}})
    assert "row_number" not in str(select_rows(FLOW_RUN, ["name"], arguments))
    assert names(filled, distinct_on=["state"], order_by=order) == ["Four_x", "five", "three"]
    assert names(filled, distinct_on=["state"], order_by=order, where=arguments.where) == ["five", "three"]
    assert names(filled, distinct_on=["state"], order_by=order, limit=1, offset=1) == ["five"]


def _logs(database: Database, keys: Sequence[str], **arguments: Any) -> list[str]:
    with database.reading() as connection:
        query = select_rows(LOG, ["message"], Arguments(**arguments), Parents("flow_run_id", keys))
        return list(connection.execute(query).scalars())


@pytest.mark.parametrize("keys", [["one"], ["one", "two"]])
def test_limit_and_offset_of_nested_rows_count_for_each_parent(filled: Database, keys: list[str]) -> None:
    order = [{"flow_run_id": "asc", "timestamp": "asc"}]
    assert _logs(filled, keys, order_by=order, limit=2) == [f"{key}-{at}" for key in keys for at in (1, 2)]
    assert _logs(filled, keys, order_by=order, limit=1, offset=2) == [f"{key}-3" for key in keys]


def test_nested_rows_are_counted_for_each_parent_separately(filled: Database) -> None:
    def counts(arguments: Arguments, *keys: str) -> list[tuple[Any, ...]]:
        query = measure_rows(LOG, [Measure("count")], arguments, Parents("flow_run_id", keys))
        with filled.reading() as connection:
            return sorted(map(tuple, connection.execute(query)))

    assert counts(Arguments(where={"timestamp": {"_gt": 1}}), "one", "two", "five") == [("one", 2), ("two", 2)]
    assert counts(Arguments(limit=1), "one") == [("one", 1)]
