"""A run's states, notices, waiting tasks and agents, as its story takes them, read from the tables."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from flowherd_server.runs.story_records import agents_known, notices_of, run_record
from flowherd_server.store.database import FILE_NAME, Database
from flowherd_server.store.log_lines import NewLine, store_lines
from flowherd_server.store.plain import find_row
from flowherd_server.store.tables import FLOW_RUN
from tests.support.many_runs import SECOND_US, Filling


@pytest.fixture
def filling(tmp_path: Path) -> Filling:
    return Filling(tmp_path / "data")


def test_a_run_is_read_with_its_times_and_labels(filling: Filling, tmp_path: Path) -> None:
    flow = filling.flow("backup")
    run_id = filling.run(flow, "Failed", due_s=60, started_s=50, ended_s=20, labels=["a", "b"], state_message="no")
    filling.write()
    with closing(Database(tmp_path / "data" / FILE_NAME)) as database, database.reading() as connection:
        row = find_row(connection, FLOW_RUN, run_id)
        assert row is not None
        run = run_record(row, "backup")
    assert (run.flow, run.state, run.message, run.labels) == ("backup", "Failed", "no", ("a", "b"))
    assert run.start_time is not None
    assert run.end_time is not None
    assert run.end_time - run.start_time == timedelta(seconds=30)


def test_agents_of_the_last_day_are_known_and_an_older_one_if_it_has_the_run(filling: Filling, tmp_path: Path) -> None:
    ids = [filling.agent(name, ["x"], heard_s=heard_s) for name, heard_s in (("new", 1), ("old", 9e5), ("older", 1e6))]
    filling.write()
    with closing(Database(tmp_path / "data" / FILE_NAME)) as database, database.reading() as connection:
        found = agents_known(connection, filling.now, lambda agent_id: agent_id == ids[0], [ids[1], None])
    assert [(agent.name, agent.connected) for agent in found] == [("new", True), ("old", False)]


def test_notices_are_found_at_both_ends_of_a_long_log(filling: Filling, tmp_path: Path) -> None:
    run_id = filling.run(filling.flow("backup"), "Running", started_s=9)
    filling.write()
    lines = [
        NewLine(run_id, None, filling.now + n * SECOND_US, None, "INFO", f"line {n}", stream="stdout")
        for n in range(4000)
    ]
    for place in (3, 1200, 3990):
        lines[place] = lines[place]._replace(message=f"notice {place}", stream="flowherd")
    with closing(Database(tmp_path / "data" / FILE_NAME)) as database, database.writing() as connection:
        store_lines(connection, lines, filling.now)
        row = find_row(connection, FLOW_RUN, run_id)
        assert row is not None
        found = notices_of(connection, row["seq"], row["log_lines"])
    assert [notice.message for notice in found] == ["notice 3", "notice 3990"]
