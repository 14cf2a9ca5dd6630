"""The delivery of what waits in an outbox: at least once, in order, and together when there is too much."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from flowherd.notify.channels import WebhookChannel
from flowherd.notify.delivery import Delivery, Target
from flowherd.notify.file_outbox import FileOutbox, read_entries
from flowherd.notify.message import Notification
from flowherd.notify.pace import GIVE_UP_AFTER_S, LONGEST_CHANNEL_PAUSE_S, Rate, pause_s
from tests.support.http_server import Answer, CannedServer, canned_server
from tests.support.waiting import wait_until

Start = Callable[..., Delivery]


def notification(number: int, at: float = 4_000_000_000.0) -> Notification:
    return Notification(id=f"id-{number}", kind="failed", at=at, title=f"failure {number}")


@pytest.fixture
def hook() -> object:
    with canned_server() as server:
        yield server


@pytest.fixture
def start(hook: CannedServer) -> object:
    """Start delivering an outbox to the hook; everything is stopped at the end."""
    started = []

    def begin(outbox: FileOutbox, burst: int = 20, pause: float = 60.0) -> Delivery:
        target = Target("hook", WebhookChannel(url=hook.url), Rate(burst, pause))
        delivery = Delivery(outbox, [target], logger)
        delivery.start()
        started.append(delivery)
        return delivery

    yield begin
    for delivery in started:
        delivery.stop(10.0)


def titles(hook: CannedServer) -> list[str]:
    return [json.loads(request.body)["title"] for request in hook.requests]


def wait_for_empty(directory: Path) -> None:
    wait_until(lambda: not list(directory.glob("*.json")), what="the outbox is empty")


def test_what_waited_before_the_start_is_delivered_in_order(tmp_path: Path, hook: CannedServer, start: Start) -> None:
    outbox = FileOutbox(tmp_path / "box")
    for number in range(3):
        outbox.add(notification(number), ["hook"])
    start(FileOutbox(tmp_path / "box"))
    wait_for_empty(tmp_path / "box")
    assert titles(hook) == ["failure 0", "failure 1", "failure 2"]


def test_a_refused_notification_is_tried_again_with_the_same_id(
    tmp_path: Path, hook: CannedServer, start: Start
) -> None:
    hook.answers = [Answer(status=500), Answer()]
    outbox = FileOutbox(tmp_path / "box")
    outbox.add(notification(1), ["hook"])
    start(outbox)
    wait_until(lambda: [each.error for each in read_entries(tmp_path / "box") if each.error], what="the first failure")
    wait_for_empty(tmp_path / "box")
    assert [json.loads(request.body)["id"] for request in hook.requests] == ["id-1", "id-1"]


def test_more_than_a_burst_goes_out_as_one_message(tmp_path: Path, hook: CannedServer, start: Start) -> None:
    outbox = FileOutbox(tmp_path / "box")
    for number in range(5):
        outbox.add(notification(number), ["hook"])
    start(outbox, burst=3, pause=3600.0)
    wait_for_empty(tmp_path / "box")
    *single, last = [json.loads(request.body) for request in hook.requests]
    assert [one["title"] for one in single] == ["failure 0", "failure 1"]
    assert last["kind"] == "several"
    assert last["title"] == "3 notifications, the first: failure 2"
    assert [one["id"] for one in last["notifications"]] == ["id-2", "id-3", "id-4"]


def test_what_could_not_be_delivered_for_a_day_is_given_up_and_kept(
    tmp_path: Path, hook: CannedServer, start: Start
) -> None:
    hook.answers = [Answer(status=410)]
    outbox = FileOutbox(tmp_path / "box")
    outbox.add(notification(1, at=1_000.0), ["hook"])
    start(outbox)
    (given_up,) = wait_until(lambda: [each for each in read_entries(tmp_path / "box") if each.is_over])
    assert "answered 410" in given_up.error
    assert len(hook.requests) == 1
    assert GIVE_UP_AFTER_S == 86_400


def test_a_file_that_is_damaged_holds_up_no_other(tmp_path: Path, hook: CannedServer, start: Start) -> None:
    box = tmp_path / "box"
    outbox = FileOutbox(box)
    outbox.add(notification(1), ["hook"])
    (box / "0.json").write_text("{")
    (box / "1.json").write_text("[]")
    start(FileOutbox(box))
    wait_until(lambda: titles(hook) == ["failure 1"])


@pytest.mark.parametrize(("failures", "pause"), [(1, 1.0), (2, 2.0), (5, 16.0), (100, 600.0)])
def test_the_pause_doubles_with_each_failure(failures: int, pause: float) -> None:
    assert pause_s(failures) == pause
    assert pause_s(100, LONGEST_CHANNEL_PAUSE_S) == LONGEST_CHANNEL_PAUSE_S


def test_a_message_has_every_field_and_a_text() -> None:
    found: dict[str, Any] = Notification(
        id="1", kind="failed", at=0.0, title="t", sentence="It failed.", grade="proven", evidence="exit code 3"
    ).as_json()
    assert found["text"] == "It failed.\nCause proven: exit code 3"
    assert found["at"] == "1970-01-01T00:00:00.000+00:00"
    assert found["run_id"] is None
