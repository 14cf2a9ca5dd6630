"""The web application: its routes, reading of requests, and HTTP errors in GraphQL's form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy.exc import DatabaseError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flowherd import __version__
from flowherd.story.asked_by import BY_HEADER, read_by
from flowherd_server.call import Caller
from flowherd_server.errors import API_ERROR, BAD_USER_INPUT, INTERNAL, NOT_FOUND, DatabaseLost, errors_answer
from flowherd_server.graphql.encoding import json_bytes
from flowherd_server.graphql.execution import database_error_answer
from flowherd_server.offers import MAX_HOLDER_LENGTH
from flowherd_server.pages.routes import Pages
from flowherd_server.runs.wake_board import Waiter
from flowherd_server.service import ServerCore
from flowherd_server.web.guard import Guard, marks_of
from flowherd_server.web.held_requests import disconnected, is_gone, wait_for_end
from flowherd_server.web.lanes import Lanes, Room, run_in
from flowherd_server.web.metrics_page import metrics_page
from flowherd_server.web.pieces_response import PiecesResponse

#: Largest request body.
MAX_BODY_BYTES = 16 * 1024 * 1024
#: How much of a larger body is read and dropped, bytes. A client that is still sending would not read the answer.
_MOST_IGNORED_BYTES = 4 * MAX_BODY_BYTES
#: Most that is read of a request, with its head and the marks between the pieces of its body, bytes.
MOST_READ_BYTES = _MOST_IGNORED_BYTES + MAX_BODY_BYTES
#: Maximum size of all bodies that are being received and answered, bytes, without the beginning of each.
_MAX_BODIES_BYTES = 8 * MAX_BODY_BYTES
#: Size of this beginning, bytes. Most of what agents send is smaller, so others' large bodies never keep it out.
_SMALL_BODY_BYTES = 256 * 1024
#: The paths that different releases of Prefect's client use.
GRAPHQL_PATHS = ("/graphql", "/graphql/", "/graphql/graphql", "/graphql/alpha")
#: Longest wait of an agent, seconds.
MAX_WAIT_S = 60.0
#: Passes of the event loop until it is known that the client has closed the connection after its request: the loop
#: reads the request, then the end of the connection, and reports that one pass later.
_PASSES_UNTIL_DISCONNECT = 3


def create_app(
    core: ServerCore, host: str, token: str, max_waits: int, lane: Path | None = None, pages: str = "full"
) -> Starlette:
    """Return the application of a server that listens on `host`. Clients must send the `token` if there is one.

    `max_waits` is the maximum number of connections that wait for a wake, `lane` the socket of the server's lane,
    `pages` the setting server.pages. Must be called in the event loop.
    """
    marks = marks_of(core.instance, restored=core.restored, has_token=bool(token))
    lanes = Lanes()
    endpoints = _Endpoints(core, lanes, max_waits)
    shown = Pages(core, lanes, token, pages)
    routes = [
        Route("/", endpoints.graphql, methods=["POST"]),
        *(Route(path, endpoints.graphql, methods=["POST"]) for path in GRAPHQL_PATHS),
        Route("/health", endpoints.health, methods=["GET"]),
        Route("/metrics", endpoints.metrics, methods=["GET"]),
        Route("/agents/{agent_id}/wake", endpoints.wake, methods=["GET"]),
        Route("/flow_runs/{flow_run_id}/end", endpoints.end, methods=["GET"]),
        Route("/poke", endpoints.poke, methods=["POST"]),
        *shown.routes,
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(
                Guard,
                host=host,
                token=token,
                marks=marks,
                lane=lane,
                visitor=shown.visitor,
                run_paths=("/", *GRAPHQL_PATHS),
            )
        ],
        exception_handlers={
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            DatabaseLost: _database_error,
            DatabaseError: _database_error,
            Exception: _unexpected_error,
        },
    )
    app.router.redirect_slashes = False
    return app


class _Answer(JSONResponse):
    """JSON that may repeat what was sent."""

    def render(self, content: Any) -> bytes:
        return json_bytes(content)


class _Endpoints:
    def __init__(self, core: ServerCore, lanes: Lanes, max_waits: int) -> None:
        self._core = core
        self._lanes = lanes
        self._waits = Room(max_waits)
        self._bodies = Room(_MAX_BODIES_BYTES)

    async def graphql(self, request: Request) -> Response:
        with self._bodies.share() as take:
            return await self._graphql(request, take)

    async def _graphql(self, request: Request, take: Callable[[int], bool]) -> Response:
        body = _parsed(request, await _body(request, take))
        variables = _variables(body.get("variables"))
        text, name = body.get("query"), body.get("operationName")
        if not isinstance(text, str):
            raise HTTPException(400, 'the body must be a JSON object with a string under "query"')
        if name is not None and not isinstance(name, str):
            raise HTTPException(400, "operationName must be a string")
        if await _gave_up(request):
            return Response(status_code=499)  # the client is gone
        caller = _caller(request)
        answer = None
        if text.lstrip().startswith("mutation"):
            answer = await run_in(self._lanes.changes, self._core.change, text, variables, name, caller)
        if answer is None:  # a query, perhaps in a text that begins with a mutation
            lane = self._lanes.of_reader(caller.agent_id is not None)
            answer = await run_in(lane, self._core.answer, text, variables, name, caller)
        return PiecesResponse(*answer)

    async def health(self, request: Request) -> Response:
        if self._core.stopping:
            return JSONResponse({"status": "stopping"}, status_code=503)
        detail, problem = {"version": __version__}, self._core.database.problem
        status = "ok"
        if problem:
            status = "database lost" if self._core.database.lost else "database not writable"
            detail["reason"] = problem
        detail = detail if request.scope["authorized"] else {}
        return JSONResponse({"status": status, **detail}, status_code=503 if problem else 200)

    async def metrics(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        text, media_type = await run_in(self._lanes.questions, metrics_page, self._core, accept)
        return Response(text, headers={"Content-Type": media_type})

    async def wake(self, request: Request) -> Response:
        with self._waits.share() as take:
            if not take(1):
                raise _busy("as many connections wait for a wake as the server can keep")
            return await self._wake(request)

    async def _wake(self, request: Request) -> Response:
        agent_id, seen, timeout_s = (
            _uuid(request.path_params["agent_id"]),
            _number(request, "seen", 0),
            _timeout_s(request),
        )
        labels = await run_in(self._lanes.agents, self._core.labels_of_agent, agent_id)
        if labels is None:
            raise HTTPException(404, f"agent {agent_id} not found")
        waiter = _waiter(request, agent_id, labels)
        wait = asyncio.ensure_future(self._core.board.wait(waiter, int(seen), timeout_s))
        gone = asyncio.ensure_future(disconnected(request))
        try:
            await asyncio.wait((wait, gone), return_when=asyncio.FIRST_COMPLETED)
            if not wait.done():
                self._core.board.gone(waiter)
                return Response(status_code=499)  # the client is gone
            live = self._core.live.news(agent_id)
            return JSONResponse({**wait.result()._asdict(), **({"live": live.as_json()} if live else {})})
        finally:
            for each in (wait, gone):
                each.cancel()
            await asyncio.gather(wait, gone, return_exceptions=True)

    async def end(self, request: Request) -> Response:
        run_id, timeout_s = _uuid(request.path_params["flow_run_id"], "flow run"), _timeout_s(request)
        with self._waits.share() as take:
            if not take(1):
                raise _busy("as many connections wait for something as the server can keep")
            run = await wait_for_end(self._core.ends, self._lanes, request, run_id, timeout_s)
            return JSONResponse({"flow_run": run})

    async def poke(self, request: Request) -> Response:
        return JSONResponse({"agents": self._core.board.poke()})


def _waiter(request: Request, agent_id: str, labels: list[str]) -> Waiter:
    holder = request.query_params.get("holder", "")
    if not holder:
        return Waiter(agent_id=agent_id, labels=labels)
    if len(holder) > MAX_HOLDER_LENGTH:
        raise HTTPException(400, f"holder is longer than {MAX_HOLDER_LENGTH} characters")
    room = int(_number(request, "room", 0)) if "room" in request.query_params else None
    return Waiter(agent_id=agent_id, labels=labels, holder=holder, room=room)


def _busy(why: str) -> HTTPException:
    return HTTPException(503, f"API_ERROR: {why}; try again", headers={"Retry-After": "2"})


async def _gave_up(request: Request) -> bool:
    """Return whether the client has closed the connection, because the server was suspended or overloaded meanwhile.

    Such a client repeats its request, and doing both would look like two clients.
    """
    for _ in range(_PASSES_UNTIL_DISCONNECT):
        await asyncio.sleep(0)
    return is_gone(request)


async def _body(request: Request, take: Callable[[int], bool]) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            if size > _SMALL_BODY_BYTES and not take(len(chunk)):
                raise _busy("the server is receiving as many bytes as it can hold")
            chunks.append(chunk)
        elif size > _MOST_IGNORED_BYTES:
            break
    if size > MAX_BODY_BYTES:
        raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    return b"".join(chunks)


def _parsed(request: Request, data: bytes) -> Mapping[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(400, "the Content-Type must be application/json")
    body = _json("the body", data)
    if not isinstance(body, dict):
        raise HTTPException(400, "the body must be one JSON object")
    return body


def _variables(value: Any) -> Mapping[str, Any] | None:
    """Return variables that were sent as a JSON object, or as a string that contains one, as Prefect's clients do."""
    if isinstance(value, str):
        value = _json("variables", value)
    if value is not None and not isinstance(value, dict):
        raise HTTPException(400, "variables must be a JSON object, or a string that contains one")
    return value


def _json(what: str, data: str | bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"{what} cannot be read as JSON: {error}") from None


def _caller(request: Request) -> Caller:
    return Caller(
        agent_id=_uuid_header(request, "x-prefect-agent-id"),
        core_version=request.headers.get("x-prefect-core-version"),
        tenant_id=_uuid_header(request, "x-prefect-tenant-id"),
        by=read_by(request.headers.get(BY_HEADER)),
        run=request.scope["run_token"],
    )


def _uuid_header(request: Request, name: str) -> str | None:
    try:
        return str(UUID(request.headers.get(name, "")))
    except ValueError:  # absent, or not an id of this server
        return None


def _uuid(text: str, what: str = "agent") -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise HTTPException(404, f"{what} {text!r} not found") from None


def _timeout_s(request: Request) -> float:
    return min(max(_number(request, "timeout", MAX_WAIT_S), 0.0), MAX_WAIT_S)


def _number(request: Request, name: str, default: float) -> float:
    text = request.query_params.get(name)
    try:
        number = default if text is None else float(text) if name == "timeout" else int(text)
    except ValueError:
        raise HTTPException(400, f"{name} must be a number, not {text!r}") from None
    if number != number:  # NaN
        raise HTTPException(400, f"{name} must be a number")
    return number


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: NOT_FOUND, 503: API_ERROR}.get(error.status_code, BAD_USER_INPUT)
    answer = errors_answer(error.detail, code)
    return _Answer(answer, status_code=error.status_code, headers=error.headers)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _database_error(_request: Request, error: Exception) -> Response:
    answer = database_error_answer(error)
    return JSONResponse({"errors": [answer]}, status_code=503)


async def _unexpected_error(_request: Request, _error: Exception) -> Response:
    # Starlette raises the error again afterwards, so it is logged.
    return JSONResponse(errors_answer("Internal server error", INTERNAL), status_code=500)
