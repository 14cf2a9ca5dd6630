"""The label rule of the dialect, the same in Python and in SQL."""

from __future__ import annotations

import json

import pytest

from flowherd_server.label_rule import labels_match
from flowherd_server.runs.labels import normal_labels, with_labels, without_labels
from flowherd_server.store.database import Database

CASES = [
    # run's labels, agent's labels, may take it
    ([], [], True),
    ([], ["a"], False),
    (["a"], [], False),
    (["a"], ["a"], True),
    (["a"], ["a", "b"], True),
    (["a", "b"], ["a"], False),
    (["a", "b"], ["b", "a", "c"], True),
    (["A"], ["a"], False),
    (["it's", 'quo"ted', "ünï"], ["ünï", "it's", 'quo"ted'], True),
]


@pytest.mark.parametrize(("run", "agent", "expected"), CASES)
def test_an_agent_takes_runs_whose_labels_it_has_and_unlabelled_ones_only_without_labels(
    database: Database, run: list[str], agent: list[str], expected: bool
) -> None:
    assert labels_match(run, agent) is expected
    with database.reading() as connection:
        condition, ours = (with_labels, [json.dumps(agent)]) if agent else (without_labels, [])
        query = f"SELECT {condition('runs.labels')} FROM (SELECT ? AS labels) AS runs"
        found = connection.exec_driver_sql(query, (*ours, json.dumps(run))).scalar_one()
    assert bool(found) is expected


def test_labels_are_stored_sorted_and_without_repetitions() -> None:
    assert normal_labels(["b", "a", "b"]) == ["a", "b"]
