"""Talks to a running agent: through the control socket in its state directory, or through its HTTP API."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from flowherd.agent.control_path import SOCKET_FILE, short_path
from flowherd.cli import exit_codes
from flowherd.cli.agent.lock_holder import agent_pid, missing_files
from flowherd.cli.failures import CommandError
from flowherd.cli.printing import print_json, print_line, print_note
from flowherd.config.token_files import AGENT_TOKEN_FILE
from flowherd_runner.contract import identity

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_TIMEOUT_S = 15.0
#: How long to wait for a control socket that was removed, seconds: the agent makes it again at its next poll.
_SOCKET_TIMEOUT_S = 12.0
_LOOK_S = 0.2


#: Maximum size of an agent's answer, bytes, and the time for all of it, seconds.
_MAX_BODY_BYTES = 4 * 1024 * 1024
_BODY_TIME_S = 30.0
#: What every agent says of itself, with the type.
_DESCRIPTION = {"agent": str, "status": str, "reason": str, "pid": int, "instance": str, "runs": int}


class _NoAnswer(Exception):
    """No agent answers."""


class AgentClient:
    """One agent.

    Methods raise CommandError if the agent does not answer or refuses; `look` and `is_running` take no answer as such.
    """

    def __init__(
        self,
        connect: Callable[[], http.client.HTTPConnection],
        token: str,
        no_answer: str,
        state_dir: Path | None = None,
    ) -> None:
        self._connect = connect
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        #: Error message if no agent answers.
        self._no_answer = no_answer
        #: The agent's state directory; None if it is reached by an address.
        self._state_dir = state_dir

    @classmethod
    def in_directory(cls, state_dir: Path, name: str) -> AgentClient:
        """Return a client of the agent with this state directory; `name` is for messages."""
        no_answer = (
            f"no agent {name!r} runs on {state_dir}; name another with -n or --state-dir, or start it: `flowherd start`"
        )
        return cls(lambda: _UnixConnection(state_dir), "", no_answer, state_dir)

    @classmethod
    def at_address(cls, address: str, token: str) -> AgentClient:
        """Return a client of the agent whose API has this address. Raises CommandError for a malformed address."""
        try:
            parts = urlsplit(address if "//" in address else f"//{address}")
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise CommandError(f"--agent-address {address!r}: {error}", exit_codes.USAGE) from error
        if not host or not port:
            raise CommandError(
                f"--agent-address {address!r} is not an address; write it as http://127.0.0.1:8080", exit_codes.USAGE
            )
        no_answer = f"no answer from an agent at {address}"
        return cls(lambda: http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S), token, no_answer)

    @classmethod
    def of_settings(cls, loaded: LoadedSettings, address: str | None) -> AgentClient:
        """Return a client of the agent at `address`, else of the one that the settings name."""
        if address is not None:
            return cls.at_address(address, api_token(loaded, address))
        return cls.in_directory(loaded.paths.state_dir, loaded.settings.cloud.agent.name)

    def describe(self) -> dict[str, Any]:
        """Return the agent's description of itself."""
        return _description(self._answer("GET", "agent", {}))

    def runs(self, *, processes_of: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return an object for each run that has not ended, of some with their processes (agent/http_api.py)."""
        found = self._answer("GET", "runs", {"processes": list(processes_of)} if processes_of else {})
        listed = found.get("runs")
        if not isinstance(listed, list):
            raise _other_program(f"an object with {listed!r:.80} as 'runs'")
        return [run for run in listed if isinstance(run, dict) and isinstance(run.get("id"), str)]

    def post(self, path: str, **query: Any) -> dict[str, Any]:
        """Send POST /api/PATH?QUERY, one of those that are answered with a description, and return that."""
        return _description(self._answer("POST", path, query))

    def poke(self) -> None:
        """Have the agent look for runs now. Also for Prefect's agents, which know GET and answer with nothing."""
        answered = self._answer("GET", "poke", {})
        if answered:
            raise _other_program(f"{answered!r:.80}")

    def look(self) -> dict[str, Any] | None:
        """Return the agent's description of itself, or None if no agent answers."""
        try:
            return _description(self._request("GET", "agent", {}))
        except _NoAnswer:
            return None

    def is_running(self, instance: str) -> bool:
        """Return whether the agent that answers is still this instance."""
        found = self.look()
        return found is not None and found["instance"] == instance

    def wait_for_end(self, facts: Mapping[str, Any]) -> None:
        """Wait until the agent that described itself so has ended; one of this host with its process.

        An agent at an address has ended when it does not answer any more.
        """
        pid: int = facts["pid"]
        is_here = self._state_dir is not None and agent_pid(self._state_dir) == pid
        ticks = _start_ticks(pid) if is_here else None
        while self.is_running(facts["instance"]):
            time.sleep(_LOOK_S)
        while ticks is not None and _start_ticks(pid) == ticks:
            time.sleep(_LOOK_S)

    def _answer(self, method: str, path: str, query: dict[str, Any]) -> dict[str, Any]:
        self._wait_for_socket()
        try:
            return self._request(method, path, query)
        except _NoAnswer as error:
            raise CommandError(f"{self._why_no_answer()} ({error})", exit_codes.UNREACHABLE) from error

    def _wait_for_socket(self) -> None:
        """Wait, but not for long, while a running agent's control socket is missing."""
        if self._state_dir is None or (self._state_dir / SOCKET_FILE).exists() or agent_pid(self._state_dir) is None:
            return
        print_note(f"{self._state_dir / SOCKET_FILE} was removed; waiting for the agent to make it again")
        deadline_s = time.monotonic() + _SOCKET_TIMEOUT_S
        while not (self._state_dir / SOCKET_FILE).exists() and time.monotonic() < deadline_s:
            time.sleep(_LOOK_S)

    def _why_no_answer(self) -> str:
        pid = agent_pid(self._state_dir) if self._state_dir is not None else None
        if pid is None:
            return self._no_answer
        missing = ", ".join(missing_files(self._state_dir)) if self._state_dir is not None else ""
        removed = f"; removed from {self._state_dir}: {missing}" if missing else ""
        return f"the agent runs (pid {pid}) but does not answer{removed}"

    def _request(self, method: str, path: str, query: dict[str, Any]) -> dict[str, Any]:
        target = f"/api/{path}" + (f"?{urlencode(query, doseq=True)}" if query else "")
        connection = self._connect()
        try:
            connection.request(method, target, headers=self._headers)
            answer = connection.getresponse()
            status, data = answer.status, _read(answer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _NoAnswer(error) from error
        finally:
            connection.close()
        try:
            body = json.loads(data or (b"{}" if path == "poke" else b""))
        except (ValueError, RecursionError):
            body = None
        if status == 401:
            raise CommandError("the agent needs a token: set FLOWHERD__AGENT__API_TOKEN", exit_codes.USAGE)
        if not isinstance(body, dict):
            raise _other_program(f"HTTP {status} without a JSON object")
        # 503: the agent answers, but is not well; the answer says why.
        if status not in (200, 503):
            raise CommandError(f"the agent refused: {body.get('error') or f'HTTP {status}'}")
        return body


def api_token(loaded: LoadedSettings, address: str) -> str:
    """Return the token for an agent at this address.

    One that was made for the agents of this home goes to addresses of this host alone.
    """
    made = loaded.origins["agent.api_token"].path == loaded.paths.home / AGENT_TOKEN_FILE
    is_here = urlsplit(address if "//" in address else f"//{address}").hostname in _LOCAL_NAMES
    return loaded.settings.agent.api_token if is_here or not made else ""


def _start_ticks(pid: int) -> int | None:
    """Return the start ticks of a process; None if it has ended, whether or not its parent knows that."""
    status = identity.process_status(pid)
    return None if status is None or status[2] in ("Z", "X") else status[1]


def _read(answer: http.client.HTTPResponse) -> bytes:
    """Read the body. Raises ValueError if it is too large or takes too long."""
    deadline_s, data = time.monotonic() + _BODY_TIME_S, b""
    while part := answer.read1(64 * 1024):
        data += part
        if len(data) > _MAX_BODY_BYTES or time.monotonic() > deadline_s:
            raise ValueError(f"its answer has more than {_MAX_BODY_BYTES} bytes or takes more than {_BODY_TIME_S:g} s")
    if answer.length:  # which read1 does not report
        raise http.client.IncompleteRead(data, answer.length)
    return data


def _description(body: dict[str, Any]) -> dict[str, Any]:
    """Return what an agent says of itself, with `preloading` as a list of objects that have all their keys."""
    for key, kind in _DESCRIPTION.items():
        if type(body.get(key)) is not kind:
            raise _other_program(f"an object with {body.get(key)!r:.80} as {key!r}")
    waits = body.get("preloading")
    return {**body, "preloading": [wait for wait in waits if _is_wait(wait)] if isinstance(waits, list) else []}


def _is_wait(wait: Any) -> bool:
    if not isinstance(wait, dict) or not isinstance(wait.get("interpreter"), str):
        return False
    module, runs, seconds = wait.get("module"), wait.get("runs", []), wait.get("seconds")
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < 1e9
    return is_number and isinstance(runs, list) and "module" in wait and (module is None or isinstance(module, str))


def _other_program(answered: str) -> CommandError:
    return CommandError(
        f"what answers there is no flowherd agent: it answered {answered}; look what listens there, or name another "
        "agent with -n, --state-dir or --agent-address",
        exit_codes.UNREACHABLE,
    )


def print_facts(facts: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print what an agent answered: as JSON, or for people as `text`."""
    if as_json:
        print_json(facts)
    else:
        print_line(text)


def running_runs(facts: dict[str, Any]) -> str:
    """Return how many runs an agent has, as the beginning of a sentence: "1 run is", "no runs are"."""
    count = facts["runs"]
    return "1 run is" if count == 1 else f"{count or 'no'} runs are"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, state_dir: Path) -> None:
        # The host name only ends up in a header.
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._state_dir = state_dir

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        with short_path(self._state_dir) as path:
            self.sock.connect(path)
