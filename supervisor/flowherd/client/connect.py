"""Connects a person or a program to a server that was found."""

from __future__ import annotations

from flowherd.backends.discovery import Api, client_token
from flowherd.backends.graphql.open_graphql import transport_to
from flowherd.client.user_client import UserClient
from flowherd.config import LoadedSettings


def connect(
    loaded: LoadedSettings, api: Api, *, token: str = "", timeout_s: float | None = None, plain: bool = False
) -> UserClient:
    """Return a connection to an API, with the token of the settings unless one is given.

    `plain` is for short programs of one thread, see HttpClient.
    """
    token = token or client_token(loaded, api)
    return UserClient(transport_to(loaded, api, token, timeout_s=timeout_s, plain=plain))
