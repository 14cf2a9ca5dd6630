"""Requests of short programs by the standard library's client: importing requests costs 70 ms of CPU, and this 13.

For flowherd's own server at a plain address. Errors are those of requests only after the caller has asked again with
requests, so only what may be asked twice is asked this way.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_MAX_BODY_BYTES = 64 * 1024 * 1024


class Headers(dict[str, str]):
    """Headers of an answer; their names are in lower case, and are looked up in any."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class Answer(NamedTuple):
    """What is used of an answer, by the names that requests has for it."""

    url: str
    status_code: int
    headers: Headers
    content: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode("utf-8", "replace")

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status_code < 400


class PlainConnection:
    """A connection to one server, which is kept between two requests."""

    def __init__(self) -> None:
        self._connection: http.client.HTTPConnection | None = None

    def exchange(
        self,
        method: str,
        url: str,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Send a request and return its answer. `timeout_s` is for each wait for the server.

        Raises TimeoutError if there is a connection and no answer in time, any other OSError without an answer, and
        ValueError for an address or an answer of another kind than this module knows.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.username is not None:
            raise ValueError(f"not a plain address: {url!r}")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = self._connected(parts.hostname, parts.port or 80, timeout_s)
        try:
            connection.request(method, target, body, {**(headers or {})})
            with connection.getresponse() as response:
                headers = Headers((name.lower(), value) for name, value in response.getheaders())
                if response.length is None or response.length > _MAX_BODY_BYTES or "Content-Encoding" in headers:
                    raise ValueError("an answer that is compressed, too large, or does not say how long it is")
                return Answer(url, response.status, headers, response.read())
        except http.client.HTTPException as error:
            self.close()
            raise ValueError(f"not an answer of HTTP: {error!r}") from error
        except (OSError, ValueError):
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self, host: str, port: int, timeout_s: float) -> http.client.HTTPConnection:
        connection = self._connection
        if connection is None or (connection.host, connection.port) != (host, port):
            self.close()
            connection = self._connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        if connection.sock is None:
            try:
                connection.connect()
            except TimeoutError as error:
                raise ConnectionError(f"no connection within {timeout_s:g} s") from error
        connection.sock.settimeout(timeout_s)
        return connection


def get(url: str, timeout_s: float) -> Answer:
    """Return the answer to a GET on a connection of its own; raises as `PlainConnection.exchange` does."""
    with contextlib.closing(PlainConnection()) as connection:
        return connection.exchange("GET", url, timeout_s)


def json_request(content: Mapping[str, Any]) -> bytes | None:
    """Return the body of a GraphQL query; None for anything else, and for what may not be sent twice."""
    operation = content.get("json")
    if set(content) - {"json"} or not isinstance(operation, dict):
        return None
    return json.dumps(operation).encode() if str(operation.get("query")).startswith("query") else None
