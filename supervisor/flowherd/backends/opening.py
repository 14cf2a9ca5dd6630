"""The agent's connection to the backend that was found; the finding itself, for commands too, is in discovery."""

from __future__ import annotations

from flowherd.backends.discovery import client_token, find_api
from flowherd.backends.graphql.agent import GraphQLBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.protocol import Backend
from flowherd.config import LoadedSettings
from flowherd.errors import ConfigurationError


def open_backend(loaded: LoadedSettings) -> Backend:
    """The agent's connection. Raises ConfigurationError when no API is known or its address is none."""
    api = find_api(loaded)
    if api is None:
        raise ConfigurationError(
            "no API is known: set PREFECT__CLOUD__API, or start the embedded server with `flowherd server`"
        )
    own_token = loaded.settings.cloud.agent.auth_token
    try:
        transport = GraphQLTransport(
            api.address, own_token or client_token(loaded, api), loaded.settings.cloud.request_timeout
        )
    except ValueError as error:
        raise ConfigurationError(f"cloud.api, from {api.found_by}: {error}") from error
    return GraphQLBackend(transport)
