"""Tokens for an agent that isolates its runs: without them, a run could ask the agent or the server for anything."""

from __future__ import annotations

import os
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
    if settings.backend_name == "graphql" and is_left_to_embedded_server(loaded) and not settings.server.token:
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

    Raises CommandError if it wants none; with `if_missing` "weaker" it is a warning.
    """
    if not _is_open(address):
        return
    text = f"runs are to be isolated, but flowherd's server at {address} wants no token, {_DANGER}"
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

    parts = urlsplit(address)
    try:
        answer = plain_http.get(f"{parts.scheme}://{parts.netloc}/health", _TIMEOUT_S)
    except (OSError, ValueError):  # it does not answer, which the agent's first contact shows
        return False
    # Without the token a server that has one does not say its version.
    return "x-flowherd-server" in answer.headers and b'"version"' in answer.content


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
