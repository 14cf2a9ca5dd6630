"""Text so far on its way to backends that keep it and to those that take only whole lines, also after an adoption."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flowherd.agent.measures import Measures
from flowherd.backends.protocol import ServerCapabilities
from flowherd.errors import BackendUnavailable
from flowherd.host.delivery.log_delivery import LogDelivery
from flowherd.host.run import Run
from flowherd.host.store.run_directory import RunDirectory
from flowherd.values import LogLine
from flowherd_runner.contract.journal import STREAM_STDERR, STREAM_STDOUT, pack_record, pack_so_far
from flowherd_runner.contract.spec import RunSpec

BAR = [
    pack_so_far(STREAM_STDERR, 20, 1000, b"10%", standing=False),
    pack_record(STREAM_STDOUT, 20, 2000, b"a line"),
    pack_so_far(STREAM_STDERR, 20, 3000, b"20%", standing=True),
    pack_so_far(STREAM_STDERR, 20, 4000, b"30%", standing=False),
    pack_record(STREAM_STDERR, 20, 5000, b"100%"),
]


class Peer:
    """A connection, and the backend behind it."""

    def __init__(self, *, keeps: bool) -> None:
        self.capabilities = ServerCapabilities(name="x", keeps_text_so_far=keeps)
        self.requests = self
        self.measures = Measures()
        self.fails = 0
        self.got: list[tuple[str, bool]] = []

    def write_logs(self, lines: Sequence[LogLine]) -> None:
        if self.fails:
            self.fails -= 1
            raise BackendUnavailable("away")
        self.got += [(line.message, line.so_far) for line in lines]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run_id = str(uuid.uuid4())
    return Run(RunDirectory(tmp_path, run_id), RunSpec(run_id), lambda: None)


def delivery(run: Run, peer: Any) -> LogDelivery:
    return LogDelivery([run], peer, send_logs=True)  # type: ignore[arg-type]


def write_and_deliver(run: Run, peer: Peer, *, adopted_each_time: bool = False) -> None:
    """Deliver after every record that the runner writes; a request that fails is made again."""
    one = delivery(run, peer)
    for record in BAR:
        with run.directory.journal.open("ab") as journal:
            journal.write(record)
        one = delivery(run, peer) if adopted_each_time else one
        while True:
            try:
                one.send(one.next_request(one.unsent()))
                break
            except BackendUnavailable:
                continue
    assert one.is_delivered(run)
    assert run.directory.forwarded() == sum(map(len, BAR))


@pytest.mark.parametrize("adopted_each_time", [False, True])
@pytest.mark.parametrize("fails", [0, 2])
def test_a_backend_that_keeps_text_so_far_gets_it_as_such(run: Run, adopted_each_time: bool, fails: int) -> None:
    peer = Peer(keeps=True)
    peer.fails = fails
    write_and_deliver(run, peer, adopted_each_time=adopted_each_time)
    expected = [("10%", True), ("a line", False), ("20%", True), ("30%", True), ("100%", False)]
    assert peer.got == expected


@pytest.mark.parametrize("adopted_each_time", [False, True])
@pytest.mark.parametrize("fails", [0, 2])
def test_another_gets_the_finished_lines_and_what_has_stood_for_long(
    run: Run, adopted_each_time: bool, fails: int
) -> None:
    peer = Peer(keeps=False)
    peer.fails = fails
    write_and_deliver(run, peer, adopted_each_time=adopted_each_time)
    assert peer.got == [("a line", False), ("20%", False), ("100%", False)]


def test_a_whole_journal_is_delivered_without_what_was_replaced(run: Run) -> None:
    run.directory.journal.write_bytes(b"".join(BAR))
    for keeps, expected in ((True, ["a line", "20%", "100%"]), (False, ["a line", "20%", "100%"])):
        peer = Peer(keeps=keeps)
        run.directory.set_forwarded(0)
        one = delivery(run, peer)
        one.send(one.next_request(one.unsent()))
        assert [message for message, _ in peer.got] == expected
        assert [so_far for _, so_far in peer.got] == [False, keeps, False]
