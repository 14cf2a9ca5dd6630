"""Reading a run's log as it grows: each line once, also lines that arrive late, with and without line numbers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.client.flow_document import HowToRun, command_storage, flow_document
from flowherd.client.logs import PAGE, RunLog
from flowherd.client.user_client import UserClient
from tests.support.server import running_server

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

START = datetime(2030, 1, 31, tzinfo=timezone.utc)


class Log:
    """The log of one run, written as agents write it, and read."""

    def __init__(self, transport: GraphQLTransport, run_id: str, *, numbered: bool) -> None:
        self._transport = transport
        self._run_id = run_id
        self._log = RunLog(transport, run_id, numbered=numbered)

    def write(self, *lines: tuple[float, str]) -> None:
        """Write lines with their times, in seconds since the start."""
        logs: list[dict[str, Any]] = [
            {
                "flow_run_id": self._run_id,
                "timestamp": (START + timedelta(seconds=at_s)).isoformat(),
                "name": "stdout",
                "level": "INFO",
                "message": message,
                "info": {"stream": "stdout"},
            }
            for at_s, message in lines
        ]
        query = "mutation($input: write_run_logs_input!) { write_run_logs(input: $input) { success } }"
        self._transport.execute(query, {"input": {"logs": logs}})

    def read(self) -> list[str]:
        """Return the messages of all lines that were not read before."""
        found: list[str] = []
        while lines := self._log.next_lines():
            found += [line.message for line in lines]
        return found

    def last(self, count: int) -> list[str]:
        """Return the messages of the last lines."""
        return [line.message for line in self._log.last_lines(count)]


@pytest.fixture(params=[True, False], ids=["numbered", "by time"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    with running_server(tmp_path / "data") as server:
        transport = GraphQLTransport(server.url)
        user = UserClient(transport)
        document = flow_document("f", command_storage(["true"]), HowToRun(), {}, None)
        flow = user.flows.register(user.flows.ensure_project("default"), document)
        run_id = user.runs.create(flow.id, parameters={})
        yield Log(transport, run_id, numbered=request.param)
        transport.close()


def test_an_empty_log_has_no_lines_until_some_arrive(log: Log) -> None:
    assert log.read() == []
    log.write((1, "one"))
    assert log.read() == ["one"]
    assert log.read() == []


def test_lines_that_exist_are_read_in_the_order_of_their_times(log: Log) -> None:
    log.write((3, "three"), (1, "one"))
    log.write((2, "two"))
    assert log.read() == ["one", "two", "three"]


def test_a_line_that_arrives_late_is_read_once(log: Log) -> None:
    log.write((5, "five"), (6, "six"))
    assert log.read() == ["five", "six"]
    log.write((4, "four"))
    assert log.read() == ["four"]
    log.write((7, "seven"))
    assert log.read() == ["seven"]
    log.write((6.5, "late"), (8, "eight"))
    assert sorted(log.read()) == ["eight", "late"]


def test_many_lines_with_one_time_are_read_over_several_pages(log: Log) -> None:
    expected = [f"line {number}" for number in range(2 * PAGE + 500)]
    log.write((0, "before"), *((1, message) for message in expected), (2, "after"))
    assert log.read() == ["before", *expected, "after"]
    log.write((1, "one more"))
    assert log.read() == ["one more"]


def test_after_the_last_lines_only_later_ones_are_read(log: Log) -> None:
    log.write(*[(n, str(n)) for n in range(30)], (29, "same"))
    assert sorted(log.last(3)) == ["28", "29", "same"]
    log.write((25, "late"), (31, "31"))
    assert log.read() == ["late", "31"]
