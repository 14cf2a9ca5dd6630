"""The addresses of the pages, and how a request becomes a call of a page's or an action's functions.

A page is a line in `PAGES` (frame.py says what its function gets and returns), an action a line in `ACTIONS`
(actions.py). The order counts: the first path that matches is taken. A page is read in a thread of the question lane,
an action is carried out in one of the lane of changes; nothing here touches the database in the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection
from starlette.datastructures import FormData, Headers, QueryParams
from starlette.requests import Request, cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from flowherd.web.form_tokens import FIELD, FormTokens
from flowherd.web.policy import PAGE_HEADERS, own_path
from flowherd.web.static import STATIC_PATH, static_file
from flowherd_server.errors import NOT_FOUND, Refused
from flowherd_server.pages import agent_actions, flow_actions, login_page, run_actions, run_changes
from flowherd_server.pages.actions import Action, Deed, Outcome, Outcomes, address_after, form_of, question_page
from flowherd_server.pages.agents import agents_page
from flowherd_server.pages.events import Look, Streams, lines_after
from flowherd_server.pages.flow import flow_page
from flowherd_server.pages.flows import flows_page
from flowherd_server.pages.frame import (
    DONE,
    Ask,
    NoSuchPage,
    Page,
    frame_of,
    message_page,
    page_response,
    referring_page,
    rendered,
)
from flowherd_server.pages.keys import keys_page
from flowherd_server.pages.login import Login, Logins
from flowherd_server.pages.overview import overview_page
from flowherd_server.pages.run import run_page
from flowherd_server.pages.run_log_part import log_text
from flowherd_server.pages.runs import find_page, runs_page
from flowherd_server.pages.schedules import schedules_page
from flowherd_server.service import ServerCore
from flowherd_server.store.microseconds import now_us
from flowherd_server.web.guard import Visitor
from flowherd_server.web.lanes import Lanes, run_in

PageFunction = Callable[[Ask], Page | Response]

PAGES: tuple[tuple[str, PageFunction], ...] = (
    ("/", overview_page),
    ("/runs", runs_page),
    ("/find", find_page),
    ("/keys", keys_page),
    ("/runs/{run}", run_page),
    ("/runs/{run}/log", log_text),
    ("/flows", flows_page),
    ("/flows/{flow:path}", flow_page),
    ("/schedules", schedules_page),
    ("/agents", agents_page),
)

ACTIONS: tuple[Action, ...] = (
    *run_actions.ACTIONS,
    *run_changes.ACTIONS,
    *flow_actions.ACTIONS,
    *agent_actions.ACTIONS,
)

_OLD_FORM = "This form was made before the server was started, or for another login. Look at it once more."


class Pages:
    """The pages of one server, of which `shown` says whether they are shown: full, read, off (server.pages)."""

    def __init__(self, core: ServerCore, lanes: Lanes, token: str, shown: str = "full") -> None:
        self._core, self._lanes, self._may_act = core, lanes, shown == "full"
        self._logins = Logins(token)
        self._tokens, self._outcomes = FormTokens(), Outcomes()
        self._streams = Streams(core, self._look)
        self._shown = [(Route(path, self._page(page), methods=["GET"]), page) for path, page in PAGES]
        self._open = [Route(f"{STATIC_PATH}/{{name}}", _static, methods=["GET"]), *login_page.routes(self._logins)]
        #: The routes, for the application.
        self.routes = [] if shown == "off" else [*self._open, *self._page_routes()]

    def visitor(self, scope: Scope, headers: Headers) -> Visitor:
        """Return what the pages know of a request that does not carry the server's token."""
        if not _is_among(self.routes, scope):
            return Visitor()
        may_enter = _is_among(self._open, scope) or self._logins.login_of(_cookies(headers)) is not None
        to = login_page.login_address(scope["path"], scope["query_string"].decode("latin-1"))
        return Visitor(is_page=True, may_enter=may_enter, login=to)

    def _page_routes(self) -> list[Route]:
        return [
            *(Route(action.path, self._question(action), methods=["GET"]) for action in ACTIONS),
            *(Route(action.path, self._deed(action), methods=["POST"]) for action in ACTIONS),
            Route("/events", self._streams.answer, methods=["GET"]),
            *(route for route, _ in self._shown),
        ]

    def _page(self, page: PageFunction) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            said = self._outcomes.said(request.query_params.get(DONE, ""))
            return await run_in(self._lanes.questions, self._read, request, page, said)

        return answer

    def _question(self, action: Action) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            if not self._may_act:
                return await run_in(self._lanes.questions, self._read, request, _only_read)
            return await run_in(
                self._lanes.questions, self._read, request, lambda ask: question_page(ask, action.question(ask))
            )

        return answer

    def _deed(self, action: Action) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            if not self._may_act:
                return await run_in(self._lanes.questions, self._read, request, _only_read)
            login, form = login_of(request, self._logins), FormData()
            try:
                form = await form_of(request)
                token = str(form.get(FIELD, ""))
                if not self._tokens.is_valid(token, login.id):
                    raise Refused(_OLD_FORM)
                deed = Deed(core=self._core, given=request.path_params, form=form, login=login)
                outcome = await self._outcomes.once(token, lambda: run_in(self._lanes.changes, action.carry_out, deed))
            except Refused as refusal:
                problem = str(refusal)
                return await run_in(
                    self._lanes.questions,
                    self._read,
                    request,
                    lambda ask: question_page(ask, action.question(ask), problem=problem, entered=form),
                )
            return _see(outcome, form, token)

        return answer

    def _read(self, request: Request, page: PageFunction, said: str = "") -> Response:
        """Return a page's answer. For worker threads."""
        self._core.contacts.store()
        with self._core.database.reading() as connection:
            ask = Ask(
                core=self._core,
                lanes=self._lanes,
                connection=connection,
                path=request.url.path,
                given=request.path_params,
                query=request.query_params,
                login=login_of(request, self._logins),
                may_act=self._may_act,
                came_from=referring_page(request.headers.get("referer", ""), request.headers.get("host", "")),
                now_us=now_us(),
            )
            try:
                answer = page(ask)
            except Refused as refusal:
                status = 404 if refusal.extensions["code"] == NOT_FOUND else 400
                title = "There is no such page." if status == 404 else "This cannot be shown."
                answer = message_page(title, str(refusal), status=status)
            return page_response(ask, answer, self._tokens, said)

    async def _look(self, address: str, numbers: frozenset[int]) -> Look:
        """Return the live parts of the page with this address. Raises Refused if there is none."""
        path, _, query = address.partition("?")
        scope = {"type": "http", "method": "GET", "path": path, "root_path": ""}
        for route, page in self._shown:
            match, found = route.matches(scope)
            if match is Match.FULL:
                return await run_in(self._lanes.questions, self._look_at, page, path, query, found, numbers)
        raise NoSuchPage(f"No page has the address {address!r:.200}.")

    def _look_at(
        self, page: PageFunction, path: str, query: str, found: Mapping[str, Any], numbers: frozenset[int]
    ) -> Look:
        def ask(connection: Connection) -> Ask:
            return Ask(
                core=self._core,
                lanes=self._lanes,
                connection=connection,
                path=path,
                given=found["path_params"],
                query=QueryParams(query),
                login=Login(),
                may_act=self._may_act,
                came_from="",
                now_us=now_us(),
                is_update=True,
            )

        with self._core.database.reading() as connection:
            first = ask(connection)
            answer = page(first)
            if isinstance(answer, Response):
                raise NoSuchPage(f"{path} has no live parts.")
            return self._looked(first, answer, numbers, ask)

    def _looked(self, ask: Ask, page: Page, numbers: frozenset[int], new_ask: Callable[[Connection], Ask]) -> Look:
        frame = frame_of(ask, page, self._tokens, "")
        rendered(page, frame)
        refresh = page.refresh

        def read_again(numbers: frozenset[int]) -> Look | None:
            with self._core.database.reading() as connection:
                ask = new_ask(connection)
                news = refresh(ask) if refresh is not None else None
                return None if news is None else self._looked(ask, news, numbers, new_ask)

        async def again(numbers: frozenset[int]) -> Look | None:
            return await run_in(self._lanes.questions, read_again, numbers)

        lines = lines_after(ask.connection, page.lines, numbers)
        return Look(frame.parts.found, tuple(page.live), lines, again if refresh is not None else None)


def _is_among(routes: list[Route], scope: Scope) -> bool:
    return any(route.matches(scope)[0] is Match.FULL for route in routes)


def _cookies(headers: Headers) -> Mapping[str, str]:
    return cookie_parser(headers.get("cookie", ""))


def login_of(request: Request, logins: Logins) -> Login:
    """Return who makes a request; the empty login if nobody had to log in."""
    return logins.login_of(request.cookies) or Login()


def _see(outcome: Outcome, form: FormData, token: str) -> Response:
    back = outcome.to or own_path(str(form.get("back", ""))) or "/"
    return RedirectResponse(address_after(back, token), 303, PAGE_HEADERS)


def _only_read(_ask: Ask) -> Page:
    sentence = "The pages of this server may only be read: its setting server.pages is “read”."
    return message_page("Nothing can be changed here.", sentence, status=403)


async def _static(request: Request) -> Response:
    file = static_file(request.path_params["name"])
    if file is None:
        return Response("there is no such file", 404, media_type="text/plain")
    packed = "gzip" in request.headers.get("accept-encoding", "")
    return Response(
        file.packed if packed else file.content, 200, file.headers(accepts_gzip=packed), media_type=file.media_type
    )
