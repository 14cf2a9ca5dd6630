"""Who may talk to the server at all: the check before every request, as ASGI middleware.

A loopback address is no protection against a browser on the same host: a page may have its own name resolve to
127.0.0.1 (DNS rebinding), so the Host header is checked, and the GraphQL endpoint insists on application/json,
which a page of another origin cannot send without being asked first.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowherd import __version__
from flowherd.errors import ConfigurationError
from flowherd_server.errors import BAD_USER_INPUT, UNAUTHENTICATED, errors_answer

SERVER_HEADER = "X-Flowherd-Server"
#: Answers anybody, since a load balancer or supervisor has no token.
OPEN_PATH = "/health"
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str) -> bool:
    """Whether only this host can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name: it can be resolved to anything
        return False


def check_binding(host: str, token: str) -> None:
    """Raises ConfigurationError when the server would be open to others without a token."""
    if not token and not is_loopback(host):
        raise ConfigurationError(
            f"the server would listen on {host}, where others can reach it, without a token; set server.token "
            "(FLOWHERD__SERVER__TOKEN), or bind it to 127.0.0.1"
        )


class Guard:
    """Lets a request through, or answers it itself; marks every answer as this server's."""

    def __init__(self, app: ASGIApp, host: str, token: str) -> None:
        self._app = app
        self._token = token.encode()
        self._local_only = is_loopback(host)
        self._local_names = _LOCAL_NAMES | {host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        scope["authorized"] = self.is_authorized(headers.get("authorization", ""))
        refusal = self._refusal(scope["path"], scope["authorized"], headers)

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[SERVER_HEADER] = __version__
            await send(message)

        await (refusal or self._app)(scope, receive, send_marked)

    def is_authorized(self, authorization: str) -> bool:
        """Whether the Authorization header carries the token, where there is one."""
        return not self._token or hmac.compare_digest(_presented(authorization), self._token)

    def _refusal(self, path: str, authorized: bool, headers: Headers) -> Response | None:
        if self._local_only and not self._is_local(headers.get("host", "")):
            answer = errors_answer("the Host header does not name this host", BAD_USER_INPUT)
            return JSONResponse(answer, status_code=400)
        if not authorized and path != OPEN_PATH:
            answer = errors_answer("UNAUTHENTICATED: the token is missing or wrong", UNAUTHENTICATED)
            # A browser asks for a password then, which is the token, so that people can see the status page.
            challenge = {"WWW-Authenticate": 'Basic realm="flowherd"'} if path == "/" else {}
            return JSONResponse(answer, status_code=401, headers=challenge)
        return None

    def _is_local(self, host: str) -> bool:
        try:
            return urlsplit(f"//{host}").hostname in self._local_names
        except ValueError:  # such as a bracket that does not close
            return False


def _presented(authorization: str) -> bytes:
    """The token in a Bearer header, or the password in a Basic one."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip().encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""
