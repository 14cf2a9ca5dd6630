"""Open the GraphQL backend with the API and token of the settings, or of the running embedded server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowherd.backends.discovery import Api, client_token, find_api
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.config import LoadedSettings, Source
from flowherd.config.route import route_of
from flowherd.errors import ConfigurationError

if TYPE_CHECKING:  # imported for an agent only; a command needs the transport alone
    from flowherd.backends.graphql.backend import GraphQLBackend


def open_graphql(loaded: LoadedSettings) -> GraphQLBackend:
    """Return the agent's connection. Raises ConfigurationError if no API is known or its address is not usable."""
    from flowherd.backends.graphql.lane_backend import LaneBackend

    api = find_api(loaded)
    if api is None:
        raise ConfigurationError(
            "no API is known: set PREFECT__CLOUD__API, or start the embedded server with `flowherd server`"
        )
    token = loaded.settings.cloud.agent.auth_token or client_token(loaded, api)
    return LaneBackend(transport_to(loaded, api, token), loaded.settings.cloud.request_timeout)


def transport_to(
    loaded: LoadedSettings, api: Api, token: str, *, timeout_s: float | None = None, plain: bool = False
) -> GraphQLTransport:
    """Return a connection to an API that was found, on the way that the settings describe.

    `plain` is for short programs, see HttpClient.
    Raises ConfigurationError if the address, or a file that the way needs, cannot be used.
    """
    cloud = loaded.settings.cloud
    try:
        return GraphQLTransport(
            api.address,
            token,
            timeout_s or cloud.request_timeout,
            endpoint="" if api.embedded_pid else _endpoint(loaded),
            route=route_of(loaded, api.address, of_pool=False, embedded=bool(api.embedded_pid)),
            plain=plain,
        )
    except ValueError as error:
        raise ConfigurationError(f"cloud.api, from {api.found_by}: {error}") from error


def _endpoint(loaded: LoadedSettings) -> str:
    """Return where operations are posted to; an API that is set with more force than this has its own endpoint."""
    of_api, of_endpoint = loaded.origins["cloud.api"], loaded.origins["cloud.graphql"]
    is_of_another_api = of_api.source is Source.ARGUMENT or (
        of_api.name.startswith("FLOWHERD__") and not of_endpoint.name.startswith("FLOWHERD__")
    )
    return "" if is_of_another_api else loaded.settings.cloud.graphql
