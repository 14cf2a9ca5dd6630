"""The access check before every request, as ASGI middleware: token, Host and Origin header.

A loopback address does not protect against web pages in a browser on the same host. A page can have its own host name
resolve to 127.0.0.1 (DNS rebinding), so the Host header is checked. And the GraphQL endpoint only accepts
application/json, which a page of another origin cannot send without a preflight request.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowherd import __version__
from flowherd.errors import ConfigurationError
from flowherd.run_token import RunToken, read_run_token
from flowherd_server.errors import BAD_USER_INPUT, UNAUTHENTICATED, errors_answer

SERVER_HEADER = "X-Flowherd-Server"
#: Tells the lives of a server apart: another value after each start.
INSTANCE_HEADER = "X-Flowherd-Instance"
#: Present in the life of a server that was started on an older copy of its database.
RESTORED_HEADER = "X-Flowherd-Restored"
#: Names the extensions that servers of release 0.1.0 do not have, separated by commas.
EXTENSIONS_HEADER = "X-Flowherd-Extensions"
#: The path of the server's lane (docs/reference/lane.md), percent-encoded. Only for clients that may ask for anything.
LANE_HEADER = "X-Flowherd-Lane"
_EXTENSIONS = ", ".join(
    (
        "text-so-far",
        "offers",
        "claim-runs",
        "wait-for-end",
        "several-runs",
        "retry",
        "schedules",
        "agent-reports",
        "live-reports",
        "flow-rules",
        "apply",
        "accounts",
        "by",
        "notifications",
    )
)
#: Further, of a server that has a token.
_WITH_TOKEN = "run-tokens"
#: The path that needs no token, for load balancers and supervisors.
OPEN_PATH = "/health"
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str) -> bool:
    """Return whether the address can only be reached from this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name, which may resolve to any address
        return False


def check_binding(host: str, token: str) -> None:
    """Raise ConfigurationError if other hosts could reach the server without a token."""
    if not token and not is_loopback(host):
        raise ConfigurationError(
            f"the server would listen on {host}, where other hosts can reach it, without a token; set server.token "
            "(FLOWHERD__SERVER__TOKEN), or bind the server to 127.0.0.1"
        )


def marks_of(instance: str, *, restored: bool, has_token: bool) -> dict[str, str]:
    """Return the headers by which a server says in every answer what it is."""
    extensions = f"{_EXTENSIONS}, {_WITH_TOKEN}" if has_token else _EXTENSIONS
    marks = {SERVER_HEADER: __version__, EXTENSIONS_HEADER: extensions, INSTANCE_HEADER: instance}
    return {**marks, RESTORED_HEADER: "1"} if restored else marks


@dataclass(frozen=True)
class Visitor:
    """What the pages know of a request without the token."""

    #: Whether it is for a page, which a person may open from anywhere.
    is_page: bool = False
    #: Whether it carries a login, or is for what needs none.
    may_enter: bool = False
    #: Where to log in; empty where that is not possible.
    login: str = ""


class Guard:
    """Passes a request on or refuses it, and adds the server's version to every answer."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        token: str,
        marks: Mapping[str, str],
        lane: Path | None,
        visitor: Callable[[Scope, Headers], Visitor],
        run_paths: Collection[str] = (),
    ) -> None:
        self._app = app
        self._visitor = visitor
        #: Where the token of a flow run is enough, for requests by POST.
        self._run_paths = run_paths
        self._marks = marks
        # A path may have any bytes.
        self._lane = {} if lane is None else {LANE_HEADER: quote(bytes(lane))}
        self._token = token.encode()
        self._local_only = is_loopback(host)
        self._local_names = _LOCAL_NAMES | {host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        authorization = headers.get("authorization", "")
        scope["authorized"] = self.is_authorized(authorization)
        scope["run_token"] = None if scope["authorized"] else self._run_token(authorization)
        refusal = self._refusal(scope, headers)

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._marks)
                if scope["authorized"]:
                    headers.update(self._lane)
            await send(message)

        await (refusal or self._app)(scope, receive, send_marked)

    def is_authorized(self, authorization: str) -> bool:
        """Return whether the Authorization header carries the token, or the server has no token."""
        return not self._token or hmac.compare_digest(_presented(authorization), self._token)

    def _run_token(self, authorization: str) -> RunToken | None:
        """Return what the token of a flow run says that the header carries, if it carries one of this server's."""
        try:
            return read_run_token(self._token.decode(), _presented(authorization).decode("ascii"))
        except UnicodeDecodeError:
            return None

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy may have read another end of the request than this server (RFC 9112, section 6.3).
            answer = errors_answer("a request has Content-Length or Transfer-Encoding, not both", BAD_USER_INPUT)
            return JSONResponse(answer, status_code=400, headers={"Connection": "close"})
        if self._local_only and not self._is_local(headers.get("host", "")):
            answer = errors_answer("the Host header does not name this host", BAD_USER_INPUT)
            return JSONResponse(answer, status_code=400)
        if _is_of_another_site(headers) if scope["method"] != "GET" else self._is_fetched_by_another(scope, headers):
            # A browser sends the password that it knows with requests of any page (CSRF).
            answer = errors_answer("UNAUTHENTICATED: pages of other sites may not do this", UNAUTHENTICATED)
            return JSONResponse(answer, status_code=403)
        if scope["authorized"] or scope["path"] == OPEN_PATH:
            return None
        if scope["run_token"] is not None:
            if scope["method"] == "POST" and scope["path"] in self._run_paths:
                return None  # the run's schema, and whether the token still holds, decide the rest
            answer = errors_answer("UNAUTHENTICATED: the token of a flow run is for GraphQL alone", UNAUTHENTICATED)
            return JSONResponse(answer, status_code=403)
        visitor = self._visitor(scope, headers)
        if visitor.may_enter:
            return None
        if visitor.login and "text/html" in headers.get("accept", ""):
            return RedirectResponse(visitor.login, 303)
        answer = errors_answer("UNAUTHENTICATED: the token is missing or wrong", UNAUTHENTICATED)
        return JSONResponse(
            answer, status_code=401, headers={"WWW-Authenticate": 'Basic realm="flowherd"'} if visitor.is_page else {}
        )

    def _is_fetched_by_another(self, scope: Scope, headers: Headers) -> bool:
        """Return whether a page of another origin reads something, such as a wake as an image or a page in a frame.

        Browsers send no Origin then, but Sec-Fetch-Site and Sec-Fetch-Mode (Fetch Metadata). Links lead to pages from
        anywhere.
        """
        if scope["path"] == OPEN_PATH or headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return False
        return headers.get("sec-fetch-mode", "navigate") != "navigate" or not self._visitor(scope, headers).is_page

    def _is_local(self, host: str) -> bool:
        try:
            return urlsplit(f"//{host}").hostname in self._local_names
        except ValueError:  # for example, an unclosed bracket
            return False


def _is_of_another_site(headers: Headers) -> bool:
    """Return whether a web page of another origin makes the request; other programs send no Origin (RFC 6454)."""
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _presented(authorization: str) -> bytes:
    """Return the token of a Bearer header, or the password of a Basic header."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip().encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""
