"""The login page of a server that has a token."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from flowherd.web.environment import render
from flowherd.web.policy import PAGE_HEADERS, own_path
from flowherd_server.errors import Refused
from flowherd_server.pages.actions import form_of
from flowherd_server.pages.login import Logins

LOGIN_PATH = "/login"
LOGOUT_PATH = "/logout"
_WRONG = "That is not the server's token."


def routes(logins: Logins) -> list[Route]:
    """Return the routes of a server that has a token; there are none without one."""
    if not logins.are_needed:
        return []
    return [
        Route(LOGIN_PATH, _asked(logins), methods=["GET"]),
        Route(LOGIN_PATH, _sent(logins), methods=["POST"]),
        Route(LOGOUT_PATH, _ended(logins), methods=["POST"]),
    ]


def login_address(path: str, query: str) -> str:
    """Return the address of the login page from which a person gets to a page."""
    return f"{LOGIN_PATH}?next={quote(path + (f'?{query}' if query else ''), safe='/')}"


def _asked(logins: Logins) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        after = own_path(request.query_params.get("next", "")) or "/"
        if request.headers.get("sec-fetch-site") == "cross-site":
            # A browser leaves the cookie out of what another site leads to; it sends it when this page leads on.
            return HTMLResponse(
                render(
                    "flowherd_server.pages",
                    "login.html",
                    after=after,
                    on=str(request.url.path) + "?" + str(request.query_params),
                    problem="",
                ),
                200,
                PAGE_HEADERS,
            )
        if logins.login_of(request.cookies) is not None:
            return RedirectResponse(after, 303, PAGE_HEADERS)
        return _form(after)

    return answer


def _sent(logins: Logins) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        try:
            form = await form_of(request)
        except Refused as refusal:
            return _form("/", str(refusal))
        after = own_path(str(form.get("next", ""))) or "/"
        if not logins.is_token(str(form.get("token", ""))):
            return _form(after, _WRONG)
        cookie = logins.cookie(str(form.get("name", "")), is_secure=request.url.scheme == "https")
        return RedirectResponse(after, 303, {**PAGE_HEADERS, "Set-Cookie": cookie})

    return answer


def _ended(logins: Logins) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        cookie = logins.ended(is_secure=request.url.scheme == "https")
        return RedirectResponse(LOGIN_PATH, 303, {**PAGE_HEADERS, "Set-Cookie": cookie})

    return answer


def _form(after: str, problem: str = "") -> Response:
    html = render("flowherd_server.pages", "login.html", after=after, on="", problem=problem)
    return HTMLResponse(html, 403 if problem else 200, PAGE_HEADERS)
