"""Carries out the requests that have come together: those that write in one transaction, whose flush they share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from loguru import logger
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from flowherd.lane.messages import BAD_REQUEST, REFUSED, UNAVAILABLE
from flowherd_server.call import Call
from flowherd_server.errors import DatabaseLost, Refused
from flowherd_server.lane.backlog import Request
from flowherd_server.lane.given import BadRequest
from flowherd_server.lane.requests import Access, LaneOperation, LaneRequest
from flowherd_server.service import ServerCore
from flowherd_server.store.microseconds import now_us
from flowherd_server.store.plain import plain

#: What concerns all requests of a transaction, which SQLite may have taken back by itself.
_NOT_POSSIBLE = (DatabaseLost, SQLAlchemyError, sqlite3.OperationalError)


@dataclass
class _Outcome:
    """What a request is answered once its transaction is over."""

    request: LaneRequest
    #: The answer; None if it is answered later.
    head: Mapping[str, Any] | None = None
    calls: list[Call] = field(default_factory=list)


def carry_out(core: ServerCore, requests: Sequence[Request]) -> None:
    """Carry out these requests and send the answers."""
    # Nobody would read the answers of the others, who repeat what they need.
    requests = [each for each in requests if not each[1].connection.problem]
    for operation, request in _with(requests, Access.NONE):
        _answer(_outcome(operation, request))
    reading, writing = _with(requests, Access.READ), _with(requests, Access.SOFT, Access.DURABLE)
    if reading:
        _together(core, reading, is_writing=False)
    if writing:
        _together(core, writing, is_writing=True)


def _with(requests: Iterable[Request], *access: Access) -> list[Request]:
    return [each for each in requests if each[0].access in access]


def _together(core: ServerCore, requests: Sequence[Request], *, is_writing: bool) -> None:
    durable = any(operation.access is Access.DURABLE for operation, _ in requests)
    try:
        with core.database.writing(durable) if is_writing else core.database.reading() as connection:
            now = now_us()
            outcomes = [_within(core, connection, now, each, is_writing=is_writing) for each in requests]
    except _NOT_POSSIBLE as error:
        logger.debug("requests of the lane cannot be carried out now: {}", error)
        for _, request in requests:
            _answer(_Outcome(request, _failure(request, UNAVAILABLE, str(getattr(error, "orig", error)))))
        return
    for (operation, request), outcome in zip(requests, outcomes, strict=True):
        for call in outcome.calls:
            core.announce(call.effects)
            if operation.asks_for_work:
                core.board.offered(call.effects.passed)
                core.note_request(request.connection.caller.agent_id, request.given.get("report"))
        _answer(outcome)


def _within(core: ServerCore, connection: Connection, now: int, each: Request, *, is_writing: bool) -> _Outcome:
    """Carry out one of the requests of a transaction, so that only its own changes are taken back if it is refused."""
    operation, request = each
    caller, known = request.connection.caller, (core.schedule_ahead, core.offers_runs)
    call = Call(connection, caller, now, *known, offers=core.offers, live=core.live)
    execute = plain(connection).execute
    if is_writing:
        execute("SAVEPOINT request")
    outcome = _outcome(operation, replace(request, call=call))
    if outcome.head is not None and "error" in outcome.head:
        if is_writing:
            execute("ROLLBACK TO request")
    else:
        outcome.calls.append(call)
    if is_writing:
        execute("RELEASE request")
    return outcome


def _outcome(operation: LaneOperation, request: LaneRequest) -> _Outcome:
    try:
        content = operation.handle(request)
    except Refused as error:
        head = {**_failure(request, REFUSED, str(error)), "code": error.extensions["code"]}
        return _Outcome(request, head)
    except BadRequest as error:
        return _Outcome(request, _failure(request, BAD_REQUEST, str(error)))
    except _NOT_POSSIBLE:
        raise
    except Exception as error:  # one request must not end the lane
        logger.exception("the lane's operation {} failed", operation.name)
        return _Outcome(request, _failure(request, UNAVAILABLE, f"an error of the server: {type(error).__name__}"))
    return _Outcome(request, None if content is None else {"id": request.id, "ok": content})


def _failure(request: LaneRequest, kind: str, message: str) -> dict[str, Any]:
    return {"id": request.id, "error": kind, "message": message}


def _answer(outcome: _Outcome) -> None:
    if outcome.head is None:
        return
    try:
        outcome.request.connection.send(outcome.head)
    except ValueError as error:  # larger than a frame may be
        outcome.request.connection.send(_failure(outcome.request, REFUSED, f"the answer does not fit: {error}"))
