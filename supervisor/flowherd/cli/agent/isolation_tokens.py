"""Tokens for an agent that isolates its runs: without them, a run could ask the agent or the server for anything."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.printing import print_note, print_warning

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings
    from flowherd.config.settings import Settings

#: How long the server may take to say whether it wants a token, seconds.
_TIMEOUT_S = 5.0
_LOOK_S = 0.05
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
#: How long an agent that has ended can count as connected, seconds.
_STILL_CONNECTED_S = 3.0
#: Commands and Python functions need no server while they run; their agent reports them.
_USERS = """{
  agent { name connected }
  flow_run(
    where: {
      state: {_in: ["Submitted", "Running", "Cancelling"]}
      flow: {_not: {_or: [{storage: {_contains: {type: "Command"}}}, {storage: {_contains: {type: "Python"}}}]}}
    }
    limit: 20
  ) { name }
}"""
_DANGER = "so each run could use it to cancel other runs, to read their parameters and to register flows"


def isolates(settings: Settings) -> bool:
    """Return whether these settings have every run isolated."""
    asked = settings.runs.isolation
    return asked.level != "none" or asked.network != "host"


def with_tokens_of_start(loaded: LoadedSettings, read: Callable[[], LoadedSettings]) -> LoadedSettings:
    """Return the settings of an agent that isolates its runs, with tokens of its API and of the embedded server.

    Makes those that are not set, and says so; `read` reads the settings again. Raises CommandError if a file cannot be
    written.
    """
    from flowherd.backends.discovery import is_left_to_embedded_server

    settings = loaded.settings
    if settings.backend_name == "graphql" and not settings.server.token:
        api = settings.cloud.api or settings.cloud.graphql
        if is_left_to_embedded_server(loaded) or _is_of_this_home(loaded, api):
            make_server_token(loaded)
    if not settings.agent.api_token and _serves_over_tcp(loaded):
        from flowherd.config.token_files import AGENT_TOKEN_FILE

        _make(loaded, AGENT_TOKEN_FILE, "the agent's API", "agent.api_token")
    return read()


def make_server_token(loaded: LoadedSettings) -> None:
    """Make a token of the embedded server. Raises CommandError if its file cannot be written."""
    from flowherd.config.token_files import SERVER_TOKEN_FILE

    _make(loaded, SERVER_TOKEN_FILE, "the embedded server", "server.token")


def check_embedded_server(loaded: LoadedSettings, address: str) -> None:
    """Check that the flowherd server which runs at this address wants a token.

    The server of this home is given its token, unless agents or runs use it without one. Raises CommandError if it
    wants none then; with `if_missing` "weaker" it is a warning.
    """
    if not _is_open(address):
        return
    text = f"runs are to be isolated, but flowherd's server at {address} wants no token, {_DANGER}"
    reads_file = loaded.origins["server.token"].path == loaded.paths.token_file and _is_of_this_home(loaded, address)
    users = _users(address) if reads_file else ""
    if reads_file and not users and _gets_token(loaded, address):
        print_note(f"the embedded server at {address} had no token; it wants the one in {loaded.paths.token_file} now")
        return
    if users:
        text += f"; it cannot be given one now, because these use it without one and would be refused: {users}"
    if loaded.settings.runs.isolation.if_missing == "weaker":
        print_warning(text)
        return
    place = loaded.origins["server.token"]
    way_out = (
        f"start that server again: it then wants the token from {place.path or place}"
        if loaded.settings.server.token
        else "give that server one: `flowherd server --new-token`"
    )
    raise CommandError(f"{text}; {way_out}", exit_codes.USAGE)


def check_other_server(loaded: LoadedSettings) -> None:
    """Check that the API which the settings name wants a token, as `check_embedded_server` does; warn if it may not."""
    cloud, prefect3 = loaded.settings.cloud, loaded.settings.prefect3
    if loaded.settings.uses_work_pool:
        address = prefect3.api
        known_by = [prefect3.api_key, prefect3.auth_string, prefect3.custom_headers, prefect3.client_cert]
    elif loaded.settings.backend_name == "graphql":
        address = cloud.api or cloud.graphql
        known_by = [cloud.agent.auth_token, loaded.settings.server.token, cloud.custom_headers, cloud.client_cert]
        check_embedded_server(loaded, address)
    else:  # of a backend that was added, nothing is known here
        return
    if not any(known_by):
        print_warning(f"runs are to be isolated, but the API at {address} is used without a token, {_DANGER}")


def _is_open(address: str) -> bool:
    """Return whether flowherd's own server is at this address and wants no token."""
    from flowherd.backends import plain_http

    try:
        answer = plain_http.get(f"{_origin(address)}/health", _TIMEOUT_S)
    except (OSError, ValueError):  # it does not answer, which the agent's first contact shows
        return False
    # Without the token a server that has one does not say its version.
    return "x-flowherd-server" in answer.headers and b'"version"' in answer.content


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _users(address: str) -> str:
    """Return who uses a server without a token: agents that stay connected, and runs whose engine needs it.

    Empty if there are none. An agent that has just ended still counts as connected for a moment.
    """
    from flowherd.backends.plain_http import PlainConnection

    connection, deadline_s = PlainConnection(), time.monotonic() + _STILL_CONNECTED_S
    body, kind = json.dumps({"query": _USERS}).encode(), {"Content-Type": "application/json"}
    while True:
        try:
            answer = connection.exchange("POST", f"{_origin(address)}/graphql", _TIMEOUT_S, kind, body)
            found = json.loads(answer.content)["data"]
            agents = sorted({str(one["name"]) for one in found["agent"] if one["connected"]})
            runs = [str(run["name"]) for run in found["flow_run"]]
        except (OSError, ValueError, KeyError, TypeError):  # it has just ended, or got a token
            agents, runs = [], []
        if not agents or time.monotonic() >= deadline_s:
            connection.close()
            return ", ".join([*(f"agent {name}" for name in agents), *(f"run {name}" for name in runs)])
        time.sleep(_LOOK_S)


def _is_of_this_home(loaded: LoadedSettings, address: str) -> bool:
    """Return whether the embedded server that runs in this home has this address."""
    from flowherd.backends.discovery import running_server

    parts = urlsplit(address)
    running = running_server(loaded.paths.server_file) if parts.hostname in _LOCAL_NAMES else None
    return running is not None and urlsplit(running.address).port == parts.port


def _gets_token(loaded: LoadedSettings, address: str) -> bool:
    """Have the running server of this home take up the token in the home's file, and return whether it does."""
    from flowherd.backends.discovery import reload_running_server

    if reload_running_server(loaded.paths.server_file) is None:
        return False
    deadline_s = time.monotonic() + _TIMEOUT_S
    while _is_open(address):
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(_LOOK_S)
    return True


def _serves_over_tcp(loaded: LoadedSettings) -> bool:
    """Return whether the agent's API is reached by TCP: at its address, or by a socket of the service manager."""
    if loaded.settings.cloud.agent.agent_address:
        return True
    if "LISTEN_FDS" not in os.environ:
        return False
    import socket

    from flowherd.agent.passed_sockets import passed_listener

    try:
        listener = passed_listener()
    except OSError:  # the agent says so
        return False
    if listener is None:
        return False
    with listener:
        return listener.family != socket.AF_UNIX


def _make(loaded: LoadedSettings, name: str, whose: str, setting: str) -> None:
    from flowherd.config.token_files import make_token

    path = loaded.paths.home / name
    try:
        made = make_token(loaded.paths.home, name)
    except OSError as error:
        text = f"runs are to be isolated, so {whose} needs a token, and none can be written to {path}: {error}"
        raise CommandError(f"{text}; set {setting}", exit_codes.USAGE) from error
    if made:
        print_note(
            f"runs are isolated, and {whose} had no token: made one in {path} (mode 0600); clients must send it, and "
            "your own commands and agents find it"
        )
