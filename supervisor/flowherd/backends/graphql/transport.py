"""One GraphQL operation over HTTP, and which error of ours an answer means. Knows no operation by name.

The dialect's habits, as its real clients and servers have them: POST only, `variables` travels as a JSON text, a
success has no key "errors", and a refusal is HTTP 200 with errors in the body.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from threading import local
from typing import Any
from urllib.parse import urlsplit

import requests

from flowherd import __version__
from flowherd.errors import BackendRefused, BackendUnavailable, ClaimLost, NotAuthorized

#: Set by flowherd's own server on every answer; tells the client that the extensions are there.
SERVER_HEADER = "X-Flowherd-Server"
#: The dialect's words for "somebody else has this run".
_CLAIM_LOST_TEXT = "State update failed"
_VERSION_LOCK_CODE = "VERSION_LOCKING_ERROR"
#: A proxy's or a busy server's passing trouble.
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
#: Of one answer; the longest real ones are some megabytes.
MAX_BODY_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
#: For the body of an answer, beyond the time-out of the request.
_BODY_TIME_S = 30.0
#: A server that is not to be asked for longer than this is asked all the same.
_LONGEST_WISH_S = 900.0
#: Of a server's message.
_MOST_CHARACTERS = 2000


class GraphQLTransport:
    """A connection to one GraphQL endpoint; usable from several threads, each with its own HTTP session.

    `api` is the base address: without a path the dialect's own, /graphql, is used.
    """

    def __init__(self, api: str, token: str = "", timeout_s: float = 15.0) -> None:
        parts = urlsplit(api)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"not an http(s) address: {api!r}")
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.endpoint = self.origin + (parts.path if parts.path.strip("/") else "/graphql")
        self.server_version: str | None = None
        self._timeout_s = timeout_s
        self._headers = {"X-PREFECT-CORE-VERSION": f"flowherd-{__version__}"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._thread = local()

    def attach_headers(self, headers: Mapping[str, str]) -> None:
        """Send these headers with every later request."""
        self._headers.update(headers)

    def execute(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The `data` of one operation's answer.

        Raises BackendUnavailable (no or no understandable answer), NotAuthorized, ClaimLost or BackendRefused.
        """
        body = {"query": query, "variables": json.dumps(variables)}
        return self._data(self._send("POST", self.endpoint, timeout_s=self._timeout_s, json=body))

    def get(self, path: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """The JSON answer of a plain GET beside the GraphQL endpoint; raises as `execute` does."""
        response = self._send("GET", self.origin + path, timeout_s=timeout_s, params=params)
        return _json(response)

    def post(self, path: str, timeout_s: float) -> Any:
        """The JSON answer of a plain POST without a body beside the GraphQL endpoint; raises as `execute` does."""
        response = self._send("POST", self.origin + path, timeout_s=timeout_s)
        _raise_for_status(response)
        return _json(response)

    def close(self) -> None:
        """Close this thread's session."""
        session = getattr(self._thread, "session", None)
        if session is not None:
            session.close()
            del self._thread.session

    def _send(self, method: str, url: str, *, timeout_s: float, **content: Any) -> requests.Response:
        session: requests.Session | None = getattr(self._thread, "session", None)
        if session is None:
            session = self._thread.session = requests.Session()
            # Proxies and .netrc of the environment are not for a token that was meant for this address alone.
            session.trust_env = False
        try:
            response = session.request(
                method, url, headers=self._headers, timeout=timeout_s, allow_redirects=False, stream=True, **content
            )
            _read_body(response, time.monotonic() + timeout_s + _BODY_TIME_S)
        except (requests.RequestException, ValueError) as error:  # ValueError: a header that is no text
            raise BackendUnavailable(f"no answer from {url}: {error}") from error
        self.server_version = response.headers.get(SERVER_HEADER)
        return response

    def _data(self, response: requests.Response) -> dict[str, Any]:
        _raise_for_status(response)
        answer = _json(response)
        if not isinstance(answer, dict):
            raise BackendUnavailable(f"{response.url} answered with something that is no GraphQL answer")
        if answer.get("errors"):
            raise _refusal(answer["errors"])
        data = answer.get("data")
        if not isinstance(data, dict):
            raise BackendUnavailable(f"{response.url} answered without data")
        return data


def _read_body(response: requests.Response, deadline_s: float) -> None:
    """Take the whole body, unless it is too large or comes too slowly. Raises RequestException or BackendUnavailable.

    A time-out of requests bounds only the pause between two pieces.
    """
    parts: list[bytes] = []
    size = 0
    for part in response.iter_content(_CHUNK_BYTES):
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES or time.monotonic() > deadline_s:
            response.close()
            why = "too slowly" if size <= MAX_BODY_BYTES else f"with more than {MAX_BODY_BYTES} bytes"
            raise BackendUnavailable(f"{response.url} answered {why}")
    # Where requests itself keeps a body that it has read; its own way to read one knows no bound.
    response._content = b"".join(parts)


def _json(response: requests.Response) -> Any:
    try:
        # Not response.json(): NaN and the like, which no answer of this dialect holds, could not be sent back.
        return json.loads(response.content, parse_constant=_refused_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BackendUnavailable(f"{response.url} answered {response.status_code} with no JSON") from error


def _refused_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"no number of this world: {text:.20}")
    return number


def _raise_for_status(response: requests.Response) -> None:
    status = response.status_code
    if status == 200:
        return
    if status in (401, 403):
        raise NotAuthorized(f"{response.url} does not accept the token (HTTP {status})", code=str(status))
    if status in _PASSING_STATUS:
        raise BackendUnavailable(f"{response.url} answered HTTP {status}", retry_after_s=_retry_after_s(response))
    try:
        errors = _json(response).get("errors")
    except (BackendUnavailable, AttributeError):
        errors = None
    if errors:
        raise _refusal(errors)
    if status == 404:  # no server of the dialect answers so at its address: somebody stands in its place for now
        raise BackendUnavailable(f"{response.url} answered HTTP 404")
    raise BackendRefused(f"{response.url} answered HTTP {status}", code=str(status))


def _retry_after_s(response: requests.Response) -> float | None:
    try:
        wish_s = float(response.headers["Retry-After"])
        return min(wish_s, _LONGEST_WISH_S) if wish_s >= 0 else None  # and so for NaN
    except (KeyError, ValueError):  # absent, or the HTTP-date form, which no server of this dialect sends
        return None


def _refusal(errors: Any) -> BackendRefused | BackendUnavailable:
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    message = _shown(first.get("message") or errors)
    extensions = first.get("extensions")
    code = extensions.get("code") if isinstance(extensions, dict) else None
    code = code if isinstance(code, str) else None
    if "UNAUTHENTICATED" in (code, message) or "Malformed Authorization header" in message:
        return NotAuthorized(message, code)
    if _CLAIM_LOST_TEXT in message or code == _VERSION_LOCK_CODE:
        return ClaimLost(message, code)
    if code == "API_ERROR":
        return BackendUnavailable(message)
    return BackendRefused(message, code)


def _shown(value: Any) -> str:
    """What a server says, as a text of bounded length that can be logged."""
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except RecursionError:
        text = "something nested very deeply"
    return text[:_MOST_CHARACTERS].encode("utf-8", "backslashreplace").decode()
