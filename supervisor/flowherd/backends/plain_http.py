"""A request over plain HTTP/1.1 and its whole answer, for short programs: importing requests costs 70 ms of CPU.

It knows what flowherd's own server answers: a length is announced, and nothing is compressed or redirected. Whoever
meets another answer, or an error, asks again with requests, which knows the rest; so only what may be asked twice is
asked this way.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

#: Longest head of an answer, bytes.
_MAX_HEAD_BYTES = 64 * 1024
_MAX_BODY_BYTES = 64 * 1024 * 1024
_END_OF_HEAD = b"\r\n\r\n"


class Headers(dict[str, str]):
    """Headers of an answer; their names are in lower case, and are looked up in any."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class Answer:
    """What is used of an answer, by the names that requests has for it."""

    def __init__(self, url: str, status_code: int, headers: Headers, content: bytes) -> None:
        self.url = url
        self.status_code = status_code
        self.headers = headers
        self.content = content

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
        self._socket: socket.socket | None = None
        self._place: tuple[str, int] | None = None

    def exchange(
        self, method: str, url: str, timeout_s: float, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Send a request and return its answer. `timeout_s` is for all of it.

        Raises TimeoutError if there is a connection and no answer in time, any other OSError without an answer, and
        ValueError for an address or an answer of another kind than this module knows.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.username is not None:
            raise ValueError(f"not a plain address: {url!r}")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        every = {"Host": parts.netloc, "Accept": "*/*", "Content-Length": str(len(body)), **(headers or {})}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in every.items()), "", ""]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header has more than one line")
        deadline = time.monotonic() + timeout_s
        try:
            connection = self._connected(parts.hostname, parts.port or 80, timeout_s)
            connection.sendall("\r\n".join(lines).encode("latin-1") + body)
            answer = _read_answer(connection, url, deadline)
        except (OSError, ValueError):
            self.close()
            raise
        if answer.headers.get("Connection", "").lower() == "close":
            self.close()
        return answer

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self, host: str, port: int, timeout_s: float) -> socket.socket:
        if self._socket is None or self._place != (host, port):
            self.close()
            try:
                # As bytes: for a text, Python imports the codec of international names.
                place: Any = (host.encode("ascii"), port)
                self._socket = socket.create_connection(place, timeout_s)
            except TimeoutError as error:
                raise ConnectionError(f"no connection within {timeout_s:g} s") from error
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._place = (host, port)
        self._socket.settimeout(timeout_s)
        return self._socket


def get(url: str, timeout_s: float) -> Answer:
    """Return the answer to a GET on a connection of its own; raises as `PlainConnection.exchange` does."""
    connection = PlainConnection()
    try:
        return connection.exchange("GET", url, timeout_s)
    finally:
        connection.close()


def json_request(content: Mapping[str, Any]) -> bytes | None:
    """Return the body of a GraphQL query; None for anything else, and for what may not be sent twice."""
    operation = content.get("json")
    if set(content) - {"json"} or not isinstance(operation, dict):
        return None
    return json.dumps(operation).encode() if str(operation.get("query")).startswith("query") else None


def _read_answer(connection: socket.socket, url: str, deadline: float) -> Answer:
    data = b""
    while _END_OF_HEAD not in data:
        data += _received(connection, deadline)
        if len(data) > _MAX_HEAD_BYTES:
            raise ValueError("the head of the answer is too long")
    head, _, content = data.partition(_END_OF_HEAD)
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status = first.split(" ")[:2]
    pairs = (line.partition(":") for line in lines)
    headers = Headers((name.strip().lower(), value.strip()) for name, _, value in pairs)
    length = int(headers["Content-Length"]) if "Content-Length" in headers else -1
    known = version == "HTTP/1.1" and "Transfer-Encoding" not in headers and "Content-Encoding" not in headers
    if not known or not 0 <= length <= _MAX_BODY_BYTES:
        raise ValueError("an answer of another form")
    pieces = [content]
    missing = length - len(content)
    while missing > 0:
        pieces.append(_received(connection, deadline))
        missing -= len(pieces[-1])
    if missing:
        raise ValueError("more than was announced")
    return Answer(url, int(status), headers, b"".join(pieces))


def _received(connection: socket.socket, deadline: float) -> bytes:
    data = connection.recv(1 << 18)
    if not data:
        raise ConnectionResetError("the answer ended early")
    if time.monotonic() > deadline:
        raise TimeoutError("the answer took too long")
    return data
