"""Open the backend of a Prefect 3 work pool with the address and credentials of the settings."""

from __future__ import annotations

from flowherd.backends.prefect3.backend import Prefect3Backend
from flowherd.backends.prefect3.pool import WorkPool
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.config import LoadedSettings, Source
from flowherd.config.catalogue import value_of
from flowherd.config.route import address_setting, route_of
from flowherd.errors import ConfigurationError


def open_work_pool(loaded: LoadedSettings, *, only_look: bool) -> Prefect3Backend:
    """Return the agent's connection to its work pool; with `only_look` it creates no pool and no queue.

    Raises ConfigurationError if no pool is set, no API is known, or one of the values is not usable.
    """
    own = loaded.settings.prefect3
    if not own.pool:
        raise ConfigurationError(
            f"agent.backend, from {loaded.origins['agent.backend']}, is prefect3, and no work pool is set: name one "
            "with --pool or prefect3.pool"
        )
    setting = address_setting(loaded)
    address = str(value_of(loaded.settings, setting))
    if not address:
        raise ConfigurationError(
            f"no API is known for the work pool {own.pool!r}: set PREFECT_API_URL, or prefect3.api, or choose a profile"
        )
    try:
        transport = Prefect3Transport(
            address,
            api_key=_api_key(loaded),
            auth_string=own.auth_string,
            route=route_of(loaded, address, of_pool=True),
            timeout_s=own.request_timeout or loaded.settings.cloud.request_timeout,
        )
    except ValueError as error:
        raise ConfigurationError(f"{setting}, from {loaded.origins[setting]}: {error}") from error
    queues = () if only_look else own.work_queues
    pool = WorkPool(transport, own.pool, queues, create=own.create_pool and not only_look)
    state_dir = None if only_look else loaded.paths.state_dir
    return Prefect3Backend(transport, pool, worker_name=own.worker_name, prefetch_s=own.prefetch, state_dir=state_dir)


def _api_key(loaded: LoadedSettings) -> str:
    """Return the API key: a token on the command line is for this server, one of other sources for the GraphQL API."""
    typed = loaded.origins["cloud.agent.auth_token"].source is Source.ARGUMENT
    return loaded.settings.cloud.agent.auth_token if typed else loaded.settings.prefect3.api_key
