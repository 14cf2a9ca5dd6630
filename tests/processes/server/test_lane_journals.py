"""Logs that are stored from the bytes of journals: the same lines as over GraphQL, each once, whatever is sent."""

from __future__ import annotations

import json
import random
import uuid
from pathlib import Path
from typing import Any

import pytest

from flowherd.backends.graphql.inputs import log_input
from flowherd.host.delivery.journal_reader import read_batch
from flowherd.lane.client import LaneClient, LaneRefused
from flowherd.lane.messages import BAD_REQUEST, REFUSED
from flowherd_runner.contract.journal import (
    STREAM_LOG,
    STREAM_NOTICE,
    STREAM_STDERR,
    STREAM_STDOUT,
    pack_record,
    pack_records,
    pack_so_far,
    unpack_records,
)
from tests.support.dialect import Client
from tests.support.lane import lane_of

START_NS = 1_700_000_000 * 10**9
_FIELDS = "timestamp name level message info stream line_id number task_run_id"
_COUNTS = "log_lines log_debug log_info log_warning log_error log_critical"


def _journal(task_run_id: str) -> bytes:
    """Return a journal with a record of every sort that a runner writes, and of some that only damage writes."""
    logged: list[Any] = [
        {"logger": "a.b", "message": "two\nlines", "task_run_id": task_run_id, "info": {"x": [1, "\0"]}},
        {"logger": "", "message": "half \ud800 of a pair", "flow_run_id": str(uuid.uuid4())},
        {"message": "zero \0 within", "task_run_id": "no id", "info": {"stream": "of its own"}},
        ["not an object"],
    ]
    parts = [pack_records(STREAM_STDOUT, 20, START_NS, 1000, [b"one", b"", "zwölf".encode(), b"\xff\0", b"x" * 5000])]
    for number, payload in enumerate([*(json.dumps(one).encode() for one in logged), b"{cut", b'{"message": "n"}']):
        stream = STREAM_NOTICE if number == 5 else STREAM_LOG
        parts.append(pack_record(stream, (5, 25, 30, 40, 99, 0)[number], START_NS + 10_000 + number * 1000, payload))
    parts.append(pack_record(STREAM_STDERR, 0, START_NS + 30_000, b"without a level"))
    parts.append(pack_record(9, 20, START_NS + 31_000, b"of a stream to come"))
    parts.append(pack_so_far(STREAM_STDOUT, 20, START_NS + 40_000, b"10%", standing=False))
    parts.append(pack_record(STREAM_STDOUT, 20, START_NS + 50_000, b"100%"))
    parts.append(b"damage" + pack_record(STREAM_STDOUT, 20, START_NS + 51_000, b"after damage"))
    parts.append(pack_so_far(STREAM_STDERR, 20, START_NS + 60_000, b"so far", standing=True))
    return b"".join(parts)


def _log(client: Client, run_id: str) -> Any:
    asked = f"logs(order_by: {{id: asc}}) {{ {_FIELDS} }} {_COUNTS}"
    so_far = f'text_so_far(where: {{flow_run_id: {{_eq: "{run_id}"}}}}) {{ stream name level message timestamp }}'
    return client.run(run_id, asked), client.ask(f"{{ {so_far} }}")


def _send(lane: LaneClient, run_id: str, offset: int, data: bytes, attempt: str = "token", certain: bool = True) -> int:
    piece = {"flow_run_id": run_id, "attempt": attempt, "offset": offset, "size": len(data), "certain": certain}
    (end,) = lane.request("report", data, journals=[piece]).head["journals"]
    return int(end)


def test_a_journal_becomes_the_lines_that_graphql_makes_of_it_and_each_once(client: Client, tmp_path: Path) -> None:
    first, tasks = client.going_run("a-1")
    second = client.create_run()
    (task_run_id,) = tasks.values()
    data = _journal(task_run_id)
    (tmp_path / "journal").write_bytes(data)
    lines, end = read_batch(tmp_path / "journal", first, 0, len(data), "token")
    assert end == len(data)
    client.do("write_run_logs", logs=[log_input(line, with_id=True) for line in lines])
    with lane_of(client.server) as lane:
        # A piece that ends within a record ends before it for the server, and pieces that come again change nothing.
        ends = [record.offset + 30 for record in unpack_records(data) if record.payload != b"\xff\0"]
        done = 0
        for cut in [*random.Random(1).sample(ends, 6), len(data)]:
            if cut > done:
                done = _send(lane, second, done, data[done:cut])
        assert done == len(data)
        assert _send(lane, second, 0, data) == len(data)
    expected, stored = _log(client, first), _log(client, second)
    assert len(stored[0]["logs"]) == len(list(unpack_records(data)))
    assert stored == expected


def test_a_torn_record_waits_and_pieces_that_are_not_certain_begin_with_a_record(client: Client) -> None:
    run_id = client.create_run()
    data = pack_records(STREAM_STDOUT, 20, START_NS, 1000, [b"line %d" % number for number in range(100)])
    with lane_of(client.server) as lane:
        end = _send(lane, run_id, 0, data[:1000])
        assert end < 1000
        with pytest.raises(LaneRefused, match="no record of the journal begins at 1000") as refusal:
            _send(lane, run_id, 1000, data[1000:], certain=False)
        assert refusal.value.kind == REFUSED
        assert client.run(run_id, "log_lines")["log_lines"] < 100
        assert _send(lane, run_id, end, data[end:], certain=False) == len(data)
        assert _send(lane, run_id, len(data), b"") == len(data)
    messages = [row["message"] for row in client.run(run_id, "logs(order_by: {id: asc}) { message }")["logs"]]
    assert messages == [f"line {number}" for number in range(100)]


def test_a_line_of_an_unknown_run_or_task_run_is_refused_and_nothing_of_the_request_is_stored(client: Client) -> None:
    run_id = client.create_run()
    payload = json.dumps({"logger": "x", "message": "y", "task_run_id": str(uuid.uuid4())}).encode()
    data = pack_record(STREAM_STDOUT, 20, START_NS, b"one") + pack_record(STREAM_LOG, 20, START_NS + 1000, payload)
    with lane_of(client.server) as lane:
        with pytest.raises(LaneRefused, match=r"task run .* not found"):
            _send(lane, run_id, 0, data)
        with pytest.raises(LaneRefused, match=r"flow run .* not found"):
            _send(lane, str(uuid.uuid4()), 0, data)
        for piece in ({"offset": 0, "size": 10}, {"offset": -1, "size": 0}, {"offset": 0}):
            with pytest.raises(LaneRefused) as refusal:
                lane.request("report", b"abc", journals=[{"flow_run_id": run_id, "attempt": "", **piece}])
            assert refusal.value.kind == BAD_REQUEST
    assert client.run(run_id, "log_lines") == {"log_lines": 0}


def test_bytes_that_are_no_journal_cost_at_most_their_own_lines(client: Client) -> None:
    run_id = client.create_run()
    chosen = random.Random(7)
    good = pack_records(STREAM_STDOUT, 20, START_NS, 1000, [b"line %d" % number for number in range(50)])
    with lane_of(client.server) as lane:
        for number in range(60):
            data = bytearray(good)
            for _ in range(chosen.randrange(1, 6)):
                data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
            assert 0 <= _send(lane, run_id, 0, bytes(data), f"attempt {number}") <= len(data)
        assert _send(lane, run_id, 0, good) == len(good)
    found = client.run(run_id, 'log_lines logs(where: {line_id: {_like: "token:%"}}) { message }')
    assert len(found["logs"]) == 50
    assert found["log_lines"] > 50
