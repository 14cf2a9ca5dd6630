"""Requests that the server holds until something happens: the end of a flow run; and whether a client has gone away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from flowherd_server.runs.run_ends import EndedRun, EndWait, RunEnds
from flowherd_server.web.lanes import Lanes, run_in


async def wait_for_end(ends: RunEnds, lanes: Lanes, request: Request, run_id: str, timeout_s: float) -> EndedRun | None:
    """Return the run once it has ended; None after `timeout_s`, when the server stops, or if the client is gone."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[EndedRun | None] = loop.create_future()

    def set_result(run: EndedRun | None) -> None:
        if not ended.done():
            ended.set_result(run)

    def notify(run: EndedRun | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(set_result, run)

    found = await run_in(lanes.agents, ends.wait, run_id, notify)
    if found is None:
        raise HTTPException(404, f"flow run {run_id} not found")
    if not isinstance(found, EndWait):
        return found
    gone = asyncio.ensure_future(disconnected(request))
    try:
        await asyncio.wait((ended, gone), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return ended.result() if ended.done() else None
    finally:
        ends.cancel(found)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)


async def disconnected(request: Request) -> None:
    """Return once the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def is_gone(request: Request) -> bool:
    """Return whether the server has seen that the client has closed the connection.

    As `Request.is_disconnected`, but without its cancel scope, which costs more than reading a request's body.
    """
    receiving = cast("Coroutine[Any, Any, Message]", request.receive())
    try:
        receiving.send(None)
    except StopIteration as received:
        return bool(received.value["type"] == "http.disconnect")
    receiving.close()  # it would wait
    return False
