"""write_run_logs: the order of lines, repeated lines, and refused batches."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.client.logs import RunLog
from tests.support.dialect import Client

START = datetime(2026, 1, 2, tzinfo=timezone.utc)


def lines(run_id: str, numbers: range, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "flow_run_id": run_id,
            "timestamp": (START + timedelta(microseconds=n)).isoformat(),
            "name": "stdout",
            "level": "INFO",
            "message": f"line {n}",
            "info": {"stream": "stdout"},
            "line_id": str(n),
            **more,
        }
        for n in numbers
    ]


def messages(client: Client, run_id: str) -> list[str]:
    found = client.run(run_id, "logs(order_by: {timestamp: asc}) { message }")
    return [line["message"] for line in found["logs"]]


def test_lines_come_back_complete_and_in_the_order_of_their_times(client: Client) -> None:
    run_id = client.create_run()
    client.do("write_run_logs", logs=lines(run_id, range(5, 10)))
    client.do("write_run_logs", logs=lines(run_id, range(5)))
    assert messages(client, run_id) == [f"line {n}" for n in range(10)]
    found = client.run(run_id, "logs(limit: 1, order_by: {timestamp: desc}) { timestamp name level info line_id }")
    expected = {"timestamp": "2026-01-02T00:00:00.000009+00:00", "name": "stdout", "level": "INFO", "line_id": "9"}
    assert found["logs"] == [{**expected, "info": {"stream": "stdout"}}]


def test_a_line_that_is_sent_again_is_stored_once(client: Client) -> None:
    run_id, other = client.create_run(), client.create_run()
    client.do("write_run_logs", logs=lines(run_id, range(10)))
    client.do("write_run_logs", logs=lines(run_id, range(5, 15)))
    client.do("write_run_logs", logs=lines(other, range(3)))
    assert messages(client, run_id) == [f"line {n}" for n in range(15)]
    assert messages(client, other) == [f"line {n}" for n in range(3)]


def test_lines_are_told_apart_by_attempt_and_place_whatever_their_ids_are_like(client: Client) -> None:
    run_id = client.create_run()
    ids = ["a:0", "b:0", "0", ":0", "a:00", "a:b:0", "a:deployed", "b:deployed", "deployed", f"a:{1 << 63}", "", "a:"]
    batch = [{"flow_run_id": run_id, "message": line_id, "line_id": line_id} for line_id in ids]
    client.do("write_run_logs", logs=[*batch, *batch])
    client.do("write_run_logs", logs=batch)
    found = client.run(run_id, "logs(order_by: {id: asc}) { message line_id }")["logs"]
    assert [line["line_id"] for line in found] == [line["message"] for line in found] == ids


def test_lines_are_numbered_by_run_in_the_order_of_their_arrival_and_counted_by_level(client: Client) -> None:
    run_id, other = client.create_run(), client.create_run()
    client.do("write_run_logs", logs=lines(run_id, range(5, 7), level="ERROR"))
    client.do("write_run_logs", logs=[*lines(other, range(2)), *lines(run_id, range(6), level="WARN")])
    client.do("write_run_logs", logs=[{"flow_run_id": run_id, "level": level} for level in (10, "FATAL", "NOTICE")])
    found = client.run(
        run_id,
        "log_lines log_debug log_info log_warning log_error log_critical "
        "logs(order_by: {id: asc}) { number stream line_id }",
    )
    assert [line["number"] for line in found["logs"]] == list(range(1, 11))
    assert [line["line_id"] for line in found["logs"]] == ["5", "6", "0", "1", "2", "3", "4", None, None, None]
    assert [line["stream"] for line in found.pop("logs")] == ["stdout"] * 7 + [None] * 3
    counts = {"log_debug": 1, "log_info": 1, "log_warning": 5, "log_error": 2, "log_critical": 1}
    assert found == {"log_lines": 10, **counts}
    assert client.run(other, "log_lines log_info") == {"log_lines": 2, "log_info": 2}


def test_a_follower_gets_lines_that_come_late_from_an_earlier_attempt(client: Client) -> None:
    run_id = client.create_run()
    transport = GraphQLTransport(client.server.url)
    log = RunLog(transport, run_id, numbered=True)

    def new() -> list[str]:
        return [line.message for line in log.next_lines()]

    client.do("write_run_logs", logs=lines(run_id, range(2), line_id="second:900"))
    assert (new(), new()) == (["line 0"], [])
    for place in ("first:0", "second:100", "first:75", "second:notice"):
        client.do("write_run_logs", logs=lines(run_id, range(1), line_id=place, message=place))
        assert (new(), new()) == ([place], [])
    transport.close()


def test_lines_without_an_id_are_all_kept_and_lines_of_the_same_time_keep_their_order(client: Client) -> None:
    run_id = client.create_run()
    one_time = START.isoformat()
    batch = [{"flow_run_id": run_id, "timestamp": one_time, "message": m} for m in ("b", "a", "a", "c")]
    client.do("write_run_logs", logs=batch)
    assert messages(client, run_id) == ["b", "a", "a", "c"]


def test_missing_fields_have_defaults_and_a_single_object_counts_as_a_list(client: Client) -> None:
    run_id = client.create_run()
    client.do("write_run_logs", logs={"flow_run_id": run_id, "message": None})
    (line,) = client.run(run_id, "logs { message level name info timestamp task_run_id }")["logs"]
    assert abs(datetime.now(timezone.utc) - datetime.fromisoformat(line.pop("timestamp"))) < timedelta(minutes=1)
    assert line == {"message": "", "level": "INFO", "name": None, "info": None, "task_run_id": None}


@pytest.mark.parametrize(("level", "stored"), [("NOTICE", "NOTICE"), (40, "ERROR"), (None, "INFO"), ("", "INFO")])
def test_a_batch_is_not_refused_for_the_name_of_a_level(client: Client, level: Any, stored: str) -> None:
    run_id = client.create_run()
    client.do("write_run_logs", logs=lines(run_id, range(1), level=level))
    assert client.run(run_id, "logs { level }") == {"logs": [{"level": stored}]}


def test_any_text_comes_back_as_it_was(client: Client) -> None:
    run_id = client.create_run()
    texts = ["ünï ☃ 𝄞", "nul \x00 byte", "quote ' \" \\", "line\nbreak", "x" * 200_000]
    client.do("write_run_logs", logs=[{"flow_run_id": run_id, "message": text} for text in texts])
    assert messages(client, run_id) == texts
    client.do("write_run_logs", logs={"flow_run_id": run_id, "message": "half \ud800 pair"})
    assert messages(client, run_id)[-1] == "half ? pair"


def test_lines_of_a_task_run_can_be_read_from_it_too(client: Client) -> None:
    run_id = client.create_run(client.flow(tasks=[{"slug": "a"}]))
    task_run_id = client.run(run_id, "task_runs { id }")["task_runs"][0]["id"]
    client.do("write_run_logs", logs=lines(run_id, range(2), task_run_id=task_run_id))
    assert len(client.run(run_id, "task_runs { logs { message } }")["task_runs"][0]["logs"]) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"flow_run_id": "mine"}, "logs[1]: not a UUID"),
        ({"flow_run_id": None}, "logs[1]: not a UUID"),
        ({"flow_run_id": [1]}, "logs[1]"),
        ({"timestamp": "noon"}, "logs[1]: not an ISO 8601 time"),
        ({"timestamp": 5}, "logs[1]: timestamp must be"),
        ({"message": {"a": 1}}, "logs[1]: message must be a string"),
        ({"color": "red"}, "logs[1]: unknown fields: color"),
        ({"task_run_id": "00000000-0000-0000-0000-000000000000"}, "task run 0"),
    ],
)
def test_a_batch_with_a_bad_line_is_refused_as_a_whole_and_the_line_is_named(
    client: Client, change: dict[str, Any], reason: str
) -> None:
    run_id = client.create_run()
    batch = lines(run_id, range(3))
    batch[1].update(change)
    assert reason in client.refused("write_run_logs", logs=batch)
    assert messages(client, run_id) == []


@pytest.mark.parametrize("logs", ["text", 3, [3], ["text"], [{}]])
def test_something_other_than_a_list_of_lines_is_refused(client: Client, logs: Any) -> None:
    assert "logs" in client.refused("write_run_logs", logs=logs)


@pytest.mark.slow
def test_tens_of_thousands_of_lines_are_taken_and_paged_through(client: Client) -> None:
    run_id = client.create_run()
    for start in range(0, 30_000, 5_000):
        client.do("write_run_logs", logs=lines(run_id, range(start, start + 5_000)))
    counted = client.run(run_id, "logs_aggregate { aggregate { count } }")["logs_aggregate"]
    assert counted == {"aggregate": {"count": 30_000}}
    page = f'(where: {{flow_run_id: {{_eq: "{run_id}"}}}}, order_by: {{timestamp: asc}}, limit: 2, offset: 29998)'
    assert client.ask(f"{{ log{page} {{ message }} }}")["log"] == [{"message": "line 29998"}, {"message": "line 29999"}]


def so_far(client: Client, run_id: str) -> list[tuple[str, str]]:
    found = client.run(run_id, "texts_so_far(order_by: {stream: asc}) { stream message }")
    return [(text["stream"], text["message"]) for text in found["texts_so_far"]]


def text(run_id: str, number: int, message: str, stream: str = "stdout") -> dict[str, Any]:
    """Text so far of one stream."""
    [line] = lines(run_id, range(number, number + 1), message=message, info={"stream": stream}, so_far=True)
    return line


def test_text_so_far_is_one_row_for_each_stream_until_its_line_comes(client: Client) -> None:
    run_id = client.create_run()
    client.do("write_run_logs", logs=[text(run_id, 1, "10%"), text(run_id, 2, "a prompt", "stderr")])
    client.do("write_run_logs", logs=[text(run_id, 3, "20%")])
    assert so_far(client, run_id) == [("stderr", "a prompt"), ("stdout", "20%")]
    assert messages(client, run_id) == []
    client.do("write_run_logs", logs=[*lines(run_id, range(4, 5), message="100%"), text(run_id, 5, "next")])
    assert so_far(client, run_id) == [("stderr", "a prompt"), ("stdout", "next")]
    assert messages(client, run_id) == ["100%"]


def test_requests_that_come_late_or_again_change_no_newer_text(client: Client) -> None:
    run_id = client.create_run()
    batch = [text(run_id, 1, "10%"), *lines(run_id, range(2, 3))]
    client.do("write_run_logs", logs=batch)
    client.do("write_run_logs", logs=[text(run_id, 5, "new")])
    client.do("write_run_logs", logs=batch)
    client.do("write_run_logs", logs=[text(run_id, 4, "old")])
    assert so_far(client, run_id) == [("stdout", "new")]
    assert messages(client, run_id) == ["line 2"]


def test_text_so_far_needs_a_stream_and_a_time(client: Client) -> None:
    run_id = client.create_run()
    for missing in ("info", "timestamp"):
        bad = text(run_id, 1, "10%")
        del bad[missing]
        refusal = client.refused("write_run_logs", logs=[bad])
        assert "logs[0]: text so far needs info.stream and timestamp" in refusal


def test_the_page_shows_what_running_runs_have_so_far(client: Client) -> None:
    run_id = client.create_run()
    client.do("write_run_logs", logs=[text(run_id, 1, "<42%>")])
    assert "&lt;42%&gt;" not in client.server.get("/").text
    client.report(run_id, "Running")
    assert "&lt;42%&gt;" in client.server.get("/").text
