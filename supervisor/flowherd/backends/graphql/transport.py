"""One GraphQL operation over HTTP, and which error of ours an answer means. Knows no operation by name.

The dialect's habits, as its real clients and servers have them: POST only, `variables` travels as a JSON text, a
success has no key "errors", and a refusal is HTTP 200 with errors in the body.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from flowherd import __version__
from flowherd.backends.http import PASSING_STATUS, HttpClient, json_of, retry_after_s, shown
from flowherd.errors import BackendRefused, BackendUnavailable, ClaimLost, NotAuthorized

#: Set by flowherd's own server on every answer; tells the client that the extensions are there.
SERVER_HEADER = "X-Flowherd-Server"
#: The dialect's words for "somebody else has this run".
_CLAIM_LOST_TEXT = "State update failed"
_VERSION_LOCK_CODE = "VERSION_LOCKING_ERROR"


class GraphQLTransport:
    """A connection to one GraphQL endpoint; usable from several threads, each with its own HTTP session.

    `api` is the base address: without a path the dialect's own, /graphql, is used.
    """

    def __init__(self, api: str, token: str = "", timeout_s: float = 15.0) -> None:
        parts = urlsplit(api)
        self.api = api
        self.token = token
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"not an http(s) address: {api!r}")
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.endpoint = self.origin + (parts.path if parts.path.strip("/") else "/graphql")
        self.server_version: str | None = None
        self._timeout_s = timeout_s
        headers = {"X-PREFECT-CORE-VERSION": f"flowherd-{__version__}"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._http = HttpClient(headers)

    def attach_headers(self, headers: Mapping[str, str]) -> None:
        """Send these headers with every later request."""
        self._http.attach_headers(headers)

    def execute(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The `data` of one operation's answer.

        Raises BackendUnavailable (no or no understandable answer), NotAuthorized, ClaimLost or BackendRefused.
        """
        body = {"query": query, "variables": json.dumps(variables)}
        return self._data(self._send("POST", self.endpoint, timeout_s=self._timeout_s, json=body))

    def get(self, path: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """The JSON answer of a plain GET beside the GraphQL endpoint; raises as `execute` does."""
        response = self._send("GET", self.origin + path, timeout_s=timeout_s, params=params)
        return json_of(response)

    def post(self, path: str, timeout_s: float) -> Any:
        """The JSON answer of a plain POST without a body beside the GraphQL endpoint; raises as `execute` does."""
        response = self._send("POST", self.origin + path, timeout_s=timeout_s)
        _raise_for_status(response)
        return json_of(response)

    def close(self) -> None:
        """Close this thread's session."""
        self._http.close()

    def _send(self, method: str, url: str, *, timeout_s: float, **content: Any) -> requests.Response:
        response = self._http.send(method, url, timeout_s=timeout_s, **content)
        self.server_version = response.headers.get(SERVER_HEADER)
        return response

    def _data(self, response: requests.Response) -> dict[str, Any]:
        _raise_for_status(response)
        answer = json_of(response)
        if not isinstance(answer, dict):
            raise BackendUnavailable(f"{response.url} answered with something that is no GraphQL answer")
        if answer.get("errors"):
            raise _refusal(answer["errors"])
        data = answer.get("data")
        if not isinstance(data, dict):
            raise BackendUnavailable(f"{response.url} answered without data")
        return data


def _raise_for_status(response: requests.Response) -> None:
    status = response.status_code
    if status == 200:
        return
    if status in (401, 403):
        raise NotAuthorized(f"{response.url} does not accept the token (HTTP {status})", code=str(status))
    if status in PASSING_STATUS:
        raise BackendUnavailable(f"{response.url} answered HTTP {status}", retry_after_s=retry_after_s(response))
    try:
        errors = json_of(response).get("errors")
    except (BackendUnavailable, AttributeError):
        errors = None
    if errors:
        raise _refusal(errors)
    if status == 404:  # no server of the dialect answers so at its address: somebody stands in its place for now
        raise BackendUnavailable(f"{response.url} answered HTTP 404")
    raise BackendRefused(f"{response.url} answered HTTP {status}", code=str(status))


def _refusal(errors: Any) -> BackendRefused | BackendUnavailable:
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    message = shown(first.get("message") or errors)
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
