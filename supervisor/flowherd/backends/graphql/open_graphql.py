"""Open the GraphQL backend with the API and token of the settings, or of the running embedded server."""

from __future__ import annotations

from flowherd.backends.discovery import client_token, find_api
from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.config import LoadedSettings
from flowherd.errors import ConfigurationError


def open_graphql(loaded: LoadedSettings) -> GraphQLBackend:
    """Return the agent's connection. Raises ConfigurationError if no API is known or its address is not usable."""
    api = find_api(loaded)
    if api is None:
        raise ConfigurationError(
            "no API is known: set PREFECT__CLOUD__API, or start the embedded server with `flowherd server`"
        )
    token = loaded.settings.cloud.agent.auth_token or client_token(loaded, api)
    try:
        transport = GraphQLTransport(api.address, token, loaded.settings.cloud.request_timeout)
    except ValueError as error:
        raise ConfigurationError(f"cloud.api, from {api.found_by}: {error}") from error
    return GraphQLBackend(transport)
