"""Long logs of an agent at flowherd's own server: as bytes over the lane, or as lines, the same rows come of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flowherd import LocalAgent
from flowherd.backends.graphql.lane_backend import LaneBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.values import JournalPiece, LogLine, StateReport
from flowherd_runner.contract.journal import HEADER_BYTES
from tests.support.agents import going
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server
from tests.support.waiting import wait_until

#: More than fits into one piece.
LINES = 25_000
#: So many that they go as bytes.
MANY_LINES = 3_000


class Transport(GraphQLTransport):
    """One that can leave the lane unused."""

    lane_is_used = True

    def _send(self, *args: Any, **given: Any) -> Any:
        response = super()._send(*args, **given)
        self.server_lane = self.server_lane if self.lane_is_used else None
        return response


class Counting(LaneBackend):
    """Counts what goes as bytes and as lines."""

    def __init__(self, url: str, *, lane_is_used: bool = True) -> None:
        transport = Transport(url, timeout_s=15)
        transport.lane_is_used = lane_is_used
        super().__init__(transport, 15)
        #: Size of each request that the server has stored, bytes.
        self.stored: list[int] = []
        self.lines = 0
        #: Called once, when bytes have been stored and the agent goes on.
        self.after_bytes: Callable[[], None] | None = None

    def deliver(self, lines: Sequence[LogLine], reports: Sequence[StateReport]) -> None:
        self.lines += len(lines)
        super().deliver(lines, reports)

    def write_journals(
        self, requests: Iterable[Sequence[JournalPiece]], stored: Callable[[Sequence[int]], None]
    ) -> bool:
        sizes = []

        def counted() -> Iterator[Sequence[JournalPiece]]:
            for pieces in requests:
                sizes.append(sum(len(piece.data) for piece in pieces))
                yield pieces

        def note(ends: Sequence[int]) -> None:
            self.stored.append(sizes.pop(0))
            stored(ends)

        taken = super().write_journals(counted(), note)
        after, self.after_bytes = self.after_bytes, None
        if after is not None:
            after()
        return taken


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with none_left(), running_server(tmp_path_factory.mktemp("journals") / "data") as server:
        yield server


def _agent(server: ServerProcess, label: str, *, lane_is_used: bool = True) -> LocalAgent:
    backend = Counting(server.url, lane_is_used=lane_is_used)
    return LocalAgent(labels=[label], hostname_label=False, backend=backend)


def _start(client: Client, label: str, script: str) -> str:
    storage = {"type": "Command", "argv": ["sh", "-c", script]}
    return client.create_run(client.flow(storage=storage), labels=[label])


def _output(server: ServerProcess, run_id: str) -> list[tuple[Any, ...]]:
    """Return the rows of a run's output, in the order of their arrival."""
    query = (
        "SELECT level, stream, task_run, name, message, info FROM log_line WHERE run = "
        "(SELECT seq FROM flow_run WHERE id = ?) AND stream = 1 ORDER BY number"
    )
    path = server.data_dir / "flowherd.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query, (run_id,)).fetchall()


def _ended(client: Client, run_id: str) -> bool:
    return client.run(run_id)["state"] == "Success"


def test_a_long_log_is_stored_once_and_in_order_as_bytes_and_as_lines(server: ServerProcess) -> None:
    client = Client(server)
    rows = {}
    for lane_is_used in (True, False):
        label = f"long-{lane_is_used}"
        with going(_agent(server, label, lane_is_used=lane_is_used)) as agent:
            run_id = _start(client, label, f"seq 1 {LINES}; echo; printf 'without an end'")
            wait_until(lambda run_id=run_id: _ended(client, run_id), timeout_s=60)
            rows[lane_is_used] = _output(server, run_id)
            backend = agent.backend
            assert isinstance(backend, Counting)
            assert (len(backend.stored) > 1) == lane_is_used, backend.stored
    messages = [*(str(number) for number in range(1, LINES + 1)), "", "without an end"]
    assert [row[4] for row in rows[True]] == messages
    assert rows[True] == rows[False]


def test_the_log_of_a_run_that_the_server_has_lost_holds_nothing_up(server: ServerProcess, tmp_path: Path) -> None:
    client = Client(server)
    script = f"while [ ! -e {tmp_path / 'go'} ]; do sleep 0.05; done; seq 1 {MANY_LINES}"
    with going(_agent(server, "lost")) as agent:
        lost = _start(client, "lost", script)
        kept = _start(client, "lost", script)
        wait_until(lambda: all(client.run(one)["state"] == "Running" for one in (lost, kept)))
        client.do("delete_flow_run", flow_run_id=lost)
        (tmp_path / "go").touch()
        wait_until(lambda: _ended(client, kept), timeout_s=60)
        wait_until(lambda: not agent._own_host.processes(), timeout_s=60)
    assert [row[4] for row in _output(server, kept)] == [str(number) for number in range(1, MANY_LINES + 1)]


def test_what_a_flow_prints_while_bytes_are_sent_goes_as_bytes_too(server: ServerProcess, tmp_path: Path) -> None:
    client, agent, go = Client(server), _agent(server, "growing"), tmp_path / "go"
    backend = agent.backend
    assert isinstance(backend, Counting)

    def print_more() -> None:
        (run,) = agent._own_host._registry
        go.touch()
        wait_until(lambda: run.directory.unsent_bytes() > MANY_LINES * HEADER_BYTES)

    backend.after_bytes = print_more
    with going(agent):
        script = f"seq 1 {MANY_LINES}; while [ ! -e {go} ]; do sleep 0.05; done; seq {MANY_LINES + 1} {2 * MANY_LINES}"
        run_id = _start(client, "growing", script)
        wait_until(lambda: _ended(client, run_id), timeout_s=60)
    assert [row[4] for row in _output(server, run_id)] == [str(number) for number in range(1, 2 * MANY_LINES + 1)]
    assert backend.lines < MANY_LINES, "all that was left went as lines"
