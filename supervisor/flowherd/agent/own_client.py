"""A client of the agent's own server, for what people ask the agent to do there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowherd.errors import ConfigurationError

if TYPE_CHECKING:
    from flowherd.backends.protocol import Backend
    from flowherd.client.client import Client
    from flowherd.config import LoadedSettings

#: Time-out of a request, seconds: below that of supervisord's plugin, so that it reports the server's silence.
_TIMEOUT_S = 8.0


def open_own_client(loaded: LoadedSettings, given_backend: Backend | None) -> Client:
    """Return a client of the server of an agent with these settings, for one thread.

    Raises ConfigurationError if the server is of another kind, or none is known.
    """
    from flowherd.backends.discovery import find_api
    from flowherd.client.client import Client
    from flowherd.client.connect import connect

    if given_backend is not None:
        raise ConfigurationError("this agent has a backend of its own, of which only the agent asks anything")
    if loaded.settings.uses_work_pool:
        raise ConfigurationError(
            f"the runs of the work pool {loaded.settings.prefect3.pool!r} are on a Prefect 3 server; use Prefect's own "
            "command there: prefect flow-run cancel, prefect deployment run"
        )
    api = find_api(loaded)
    if api is None:
        raise ConfigurationError(f"no API is set, and no embedded server is running for {loaded.paths.home}")
    return Client.over(connect(loaded, api, timeout_s=_TIMEOUT_S, plain=True, way="control socket"), loaded)
