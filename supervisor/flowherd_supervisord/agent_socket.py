"""Requests to an agent over the control socket in its state directory."""

import contextlib
import http.client
import io
import json
import os
import socket
import time
import urllib.parse
from typing import Any, Dict, Mapping, Optional

#: Maximum size of an agent's answer, bytes.
MOST_BYTES = 4 * 1024 * 1024
#: Longest path that fits into a socket's address, bytes (unix(7)).
_LONGEST_PATH = 107
_READ_BYTES = 64 * 1024
#: Longest request that an agent reads, bytes, with room for what is not counted here.
_MOST_REQUEST_BYTES = 60 * 1024

Answer = Dict[str, Any]


class AgentError(Exception):
    """The agent does not answer, or refuses; the text says which, and what to do. `status` is that of its answer."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class NoAgent(AgentError):
    """No agent answers at the socket."""


def ask(
    path: str, method: str, target: str, query: Optional[Mapping[str, Any]] = None, timeout_s: float = 10.0
) -> Answer:
    """Make a request and return the answer; waits at most `timeout_s` seconds.

    `target` is as in "/api/agent". Raises NoAgent or AgentError.
    """
    deadline_s, data = time.monotonic() + timeout_s, b""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        try:
            connection.settimeout(timeout_s)
            connect(connection, path)
            connection.sendall(request_bytes(method, target, query))
            while True:
                connection.settimeout(max(0.001, deadline_s - time.monotonic()))
                part = connection.recv(_READ_BYTES)
                if not part:
                    return read_answer(data)
                data += part
                if len(data) > MOST_BYTES:
                    raise too_large()
        except socket.timeout as error:
            raise late(path, timeout_s) from error
        except OSError as error:
            raise no_agent(path, error) from error


def request_bytes(method: str, target: str, query: Optional[Mapping[str, Any]] = None) -> bytes:
    """Return a request after whose answer the agent closes the connection. Values of None are left out.

    Raises AgentError if it is too long for an agent.
    """
    pairs = [(key, value) for key, value in (query or {}).items() if value is not None]
    lines = [
        "{} {} HTTP/1.1".format(method, target + ("?" + urllib.parse.urlencode(pairs, doseq=True) if pairs else "")),
        "Host: localhost",
        "Content-Length: 0",
        "Connection: close",
    ]
    made = "".join(line + "\r\n" for line in [*lines, ""]).encode("ascii")
    if len(made) > _MOST_REQUEST_BYTES:
        raise AgentError("the request has {} bytes; an agent reads {}".format(len(made), _MOST_REQUEST_BYTES))
    return made


def connect(connection: socket.socket, path: str) -> None:
    """Connect to the socket at `path`, which may have any length. Raises OSError."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        connection.connect(path)
        return
    directory, name = os.path.split(path)
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect("/proc/self/fd/{}/{}".format(descriptor, name))
    finally:
        os.close(descriptor)


def read_answer(data: bytes) -> Answer:
    """Return the object in a whole answer. Raises AgentError if it is a refusal, or no answer of an agent."""
    try:
        response = http.client.HTTPResponse(_Received(data))  # type: ignore[arg-type]
        response.begin()
        text = response.read().decode("utf-8")
        if response.status == 404 and not text.startswith("{"):
            raise AgentError("this agent does not know the request; upgrade flowherd, and restart the agent")
        body = json.loads(text)
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise AgentError("what answers at the socket is no flowherd agent: {!r}".format(error)) from error
    if not isinstance(body, dict):
        raise AgentError("what answers at the socket is no flowherd agent: it sent JSON that is no object")
    # 503: the agent answers, but is not well; the answer says why.
    if response.status in (200, 503):
        return body
    raise AgentError(str(body.get("error") or "the agent refused: HTTP {}".format(response.status)), response.status)


def no_agent(path: str, error: OSError) -> NoAgent:
    """Return the exception for a socket at which no agent answers."""
    why = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return NoAgent("{} cannot be opened ({}); this needs root or the agent's user".format(path, why))
    return NoAgent("no agent answers at {} ({}); is it running, and is this its socket?".format(path, why))


def late(path: str, timeout_s: float) -> NoAgent:
    """Return the exception for an answer that takes too long."""
    return NoAgent("the agent at {} has not answered within {:g} s".format(path, timeout_s))


def too_large() -> AgentError:
    """Return the exception for an answer that is too large."""
    return AgentError("the agent's answer has more than {} bytes; ask for less".format(MOST_BYTES))


class _Received:
    """Stands in for a connection of which everything was read."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def makefile(self, mode: str) -> io.BytesIO:
        """Return what was received as a file."""
        return self._file
