"""Talking to an agent: over the control socket in its state directory, or over its HTTP API at an address."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from flowherd.agent.control_path import short_path
from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError

_TIMEOUT_S = 15.0


class _NoAgent(Exception):
    """Nobody answers."""


class AgentClient:
    """One agent. Every method but `look` and `is_there` raises CommandError when it does not answer, or refuses."""

    def __init__(self, connect: Callable[[], http.client.HTTPConnection], token: str, absent: str) -> None:
        self._connect = connect
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        #: What to say when it does not answer.
        self._absent = absent

    @classmethod
    def in_directory(cls, state_dir: Path, name: str) -> AgentClient:
        """The agent that has this state directory."""
        absent = (
            f"no agent {name!r} runs on {state_dir}; name another with -n or --state-dir, or start it: `flowherd start`"
        )
        return cls(lambda: _UnixConnection(state_dir), "", absent)

    @classmethod
    def at_address(cls, address: str, token: str) -> AgentClient:
        """The agent that serves its API at this address. Raises CommandError for what is no address."""
        try:
            parts = urlsplit(address if "//" in address else f"//{address}")
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise CommandError(f"--agent-address {address!r}: {error}", exit_codes.USAGE) from error
        if not host or not port:
            raise CommandError(f"--agent-address {address!r} is none; http://127.0.0.1:8080 is", exit_codes.USAGE)
        absent = f"no answer from an agent at {address}"
        return cls(lambda: http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S), token, absent)

    def get(self, what: str) -> dict[str, Any]:
        """The answer to GET /api/WHAT."""
        return self._answer("GET", what, {})

    def post(self, what: str, **query: Any) -> dict[str, Any]:
        """The answer to POST /api/WHAT?QUERY."""
        return self._answer("POST", what, query)

    def look(self) -> dict[str, Any] | None:
        """What the agent says of itself, or None while nobody answers."""
        try:
            return self._ask("GET", "agent", {})
        except _NoAgent:
            return None

    def is_there(self, instance: str) -> bool:
        """Whether the agent of this instance still answers."""
        found = self.look()
        return found is not None and found["instance"] == instance

    def _answer(self, method: str, what: str, query: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._ask(method, what, query)
        except _NoAgent as error:
            raise CommandError(f"{self._absent} ({error})", exit_codes.UNREACHABLE) from error

    def _ask(self, method: str, what: str, query: dict[str, Any]) -> dict[str, Any]:
        path = f"/api/{what}" + (f"?{urlencode(query)}" if query else "")
        connection = self._connect()
        try:
            connection.request(method, path, headers=self._headers)
            answer = connection.getresponse()
            status, body = answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _NoAgent(error) from error
        finally:
            connection.close()
        if status == 401:
            raise CommandError("the agent wants a token: set FLOWHERD__AGENT__API_TOKEN", exit_codes.USAGE)
        if status not in (200, 503) or not isinstance(body, dict):
            words = body.get("error") if isinstance(body, dict) else None
            raise CommandError(f"the agent refused: {words or f'HTTP {status}'}")
        return body


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, state_dir: Path) -> None:
        # The host's name is for the header alone.
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._state_dir = state_dir

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        with short_path(self._state_dir) as path:
            self.sock.connect(path)
