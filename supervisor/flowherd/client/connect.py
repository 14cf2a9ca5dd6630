"""Connects a person or a program to a server that was found."""

from __future__ import annotations

import os
import pwd

from flowherd.backends.discovery import Api, client_token
from flowherd.backends.graphql.open_graphql import transport_to
from flowherd.client.user_client import UserClient
from flowherd.config import LoadedSettings
from flowherd.story.asked_by import asked_by


def connect(
    loaded: LoadedSettings,
    api: Api,
    *,
    token: str = "",
    timeout_s: float | None = None,
    plain: bool = False,
    way: str = "",
) -> UserClient:
    """Return a connection to an API, with the token of the settings unless one is given.

    `plain` is for short programs of one thread, see HttpClient. `way` is what the server keeps of who asks, see
    story/asked_by.py.
    """
    token = token or client_token(loaded, api)
    transport = transport_to(loaded, api, token, timeout_s=timeout_s, plain=plain)
    transport.by = asked_by(way or ("command line" if plain else "Python client"), _user())
    return UserClient(transport)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user of a container image without a name
        return str(os.getuid())
