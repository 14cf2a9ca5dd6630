"""The agent's connection to the backend that was found; the finding itself, for commands too, is in discovery.

A work pool of Prefect 3, where the settings name one; else an API of Prefect 0.x/1.x, which may be the embedded server.
"""

from __future__ import annotations

from flowherd.backends.discovery import client_token, find_api
from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.protocol import Backend
from flowherd.config import LoadedSettings, Source
from flowherd.errors import ConfigurationError


def open_backend(loaded: LoadedSettings, *, only_look: bool = False) -> Backend:
    """The agent's connection. Raises ConfigurationError when no API is known or its address is none.

    With `only_look` connecting makes no work pool and no queue.
    """
    return _work_pool(loaded, only_look=only_look) if loaded.settings.prefect3.pool else _graphql(loaded)


def engine_of(loaded: LoadedSettings) -> str:
    """Return the name of the engine of the backend that the settings name, also when its API is not known."""
    return "prefect3" if loaded.settings.prefect3.pool else GraphQLBackend.engine


def _graphql(loaded: LoadedSettings) -> Backend:
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


def _work_pool(loaded: LoadedSettings, *, only_look: bool) -> Backend:
    # Here and not above: an agent of the other dialect needs none of it.
    from flowherd.backends.prefect3.backend import Prefect3Backend
    from flowherd.backends.prefect3.pool import WorkPool
    from flowherd.backends.prefect3.transport import Prefect3Transport

    own = loaded.settings.prefect3
    name = _api_setting(loaded)
    address = own.api if name == "prefect3.api" else loaded.settings.cloud.api
    if not address:
        raise ConfigurationError(
            f"no API is known for the work pool {own.pool!r}: set PREFECT_API_URL, or prefect3.api, or choose a profile"
        )
    try:
        transport = Prefect3Transport(
            address,
            api_key=_api_key(loaded),
            auth_string=own.auth_string,
            ssl_cert_file=own.ssl_cert_file,
            timeout_s=loaded.settings.cloud.request_timeout,
        )
    except ValueError as error:
        raise ConfigurationError(f"{name}, from {loaded.origins[name]}: {error}") from error
    queues = () if only_look else own.work_queues
    pool = WorkPool(transport, own.pool, queues, create=own.create_pool and not only_look)
    return Prefect3Backend(transport, pool, worker_name=own.worker_name, prefetch_s=own.prefetch)


def _api_key(loaded: LoadedSettings) -> str:
    """A token that was typed is meant for this server; one of other sources is the other dialect's."""
    typed = loaded.origins["cloud.agent.auth_token"].source is Source.ARGUMENT
    return loaded.settings.cloud.agent.auth_token if typed else loaded.settings.prefect3.api_key


def _api_setting(loaded: LoadedSettings) -> str:
    """The setting that holds the address: what a person typed just now is meant for this."""
    typed = loaded.origins["cloud.api"].source is Source.ARGUMENT
    return "cloud.api" if typed or not loaded.settings.prefect3.api else "prefect3.api"
