"""What the shell completes: flows, ids of runs, work pools, queues. Silent where the API does not answer at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from flowherd.errors import BackendUnavailable, FlowherdError

if TYPE_CHECKING:
    from flowherd.client.user import UserClient

#: A shell that waits longer than this for a completion is worse than one that has none.
_TIMEOUT_S = 1.5
_RUNS = 50


def flows(incomplete: str) -> list[str]:
    """Names of registered flows."""
    try:
        names = {flow.name for flow in _client().flows()}
    except FlowherdError:
        return []
    return sorted(name for name in names if name.startswith(incomplete))


def runs(incomplete: str) -> list[tuple[str, str]]:
    """Ids of the newest runs, each with its flow and state."""
    try:
        found = _client().runs(limit=_RUNS)
    except FlowherdError:
        return []
    return [(run.id, f"{run.flow} {run.state}") for run in found if run.id.startswith(incomplete)]


def pools(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the Prefect 3 server's process work pools."""
    return _of_server(context, "/work_pools/filter", incomplete, of_type="process")


def queues(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the pool's queues, once the pool is there."""
    from urllib.parse import quote

    pool = context.params.get("pool")
    return _of_server(context, f"/work_pools/{quote(pool, safe='')}/queues/filter", incomplete) if pool else []


def _of_server(context: typer.Context, path: str, incomplete: str, of_type: str | None = None) -> list[str]:
    """The names of what a Prefect 3 server lists there."""
    from flowherd.backends.json_values import mappings_not_null
    from flowherd.backends.prefect3.transport import Prefect3Transport
    from flowherd.config import load_settings

    try:
        loaded = load_settings({"cloud.api": context.params.get("api")})
        own = loaded.settings.prefect3
        address = context.params.get("api") or own.api or loaded.settings.cloud.api
        transport = Prefect3Transport(
            address,
            api_key=own.api_key,
            auth_string=own.auth_string,
            ssl_cert_file=own.ssl_cert_file,
            timeout_s=_TIMEOUT_S,
        )
        rows = mappings_not_null(transport.post(path, {}, once=True))
        names = [str(row["name"]) for row in rows if of_type is None or row.get("type") == of_type]
    except (FlowherdError, ValueError, TypeError, KeyError):  # no address, none of Prefect 3's, or no such pool
        return []
    return sorted(name for name in names if name.startswith(incomplete))


def _client() -> UserClient:
    from flowherd.backends.discovery import client_token, find_api
    from flowherd.backends.graphql.transport import GraphQLTransport
    from flowherd.client.user import UserClient
    from flowherd.config import load_settings

    loaded = load_settings()
    api = find_api(loaded)
    if api is None:
        raise BackendUnavailable("no API is known")
    return UserClient(GraphQLTransport(api.address, client_token(loaded, api), _TIMEOUT_S))
