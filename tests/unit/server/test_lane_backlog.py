"""Which requests of the lane are carried out together, and in which order."""

from __future__ import annotations

from typing import Any, cast

from flowherd_server.lane.backlog import BULK_BYTES, MOST_BULK_BYTES, Backlog, Request
from flowherd_server.lane.connection import LaneConnection
from flowherd_server.lane.requests import LaneRequest

OPERATION: Any = None


def request(connection: object, number: int, size: int = 0, **given: Any) -> Request:
    core: Any = None
    of = cast("LaneConnection", connection)
    return OPERATION, LaneRequest(connection=of, id=number, given=given, body=bytes(size), core=core)


def taken(backlog: Backlog) -> list[int]:
    return [each.id for _, each in backlog.take()]


def test_small_requests_do_not_wait_for_bulk_of_others_and_overtake_none_of_their_own_connection() -> None:
    backlog, logs, claims = Backlog(), object(), object()
    for each in (
        request(logs, 1, BULK_BYTES + 1),
        request(logs, 2),
        request(claims, 3),
        request(claims, 4, logs=[{}] * 1000),
        request(claims, 5),
    ):
        backlog.add(each)
    assert taken(backlog) == [3]
    assert taken(backlog) == [1, 2, 4, 5]
    assert not backlog


def test_bulk_is_split_into_transactions_and_its_connection_is_not_read_meanwhile() -> None:
    backlog, logs = Backlog(), cast("LaneConnection", object())
    for number in range(3):
        backlog.add(request(logs, number, MOST_BULK_BYTES // 2))
    assert taken(backlog) == [0, 1]
    assert backlog.holds(logs)
    assert taken(backlog) == [2]
    assert not backlog.holds(logs)
