"""What the shell completes: names of flows, and ids of runs. Silent where the API does not answer at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowherd.errors import BackendUnavailable, FlowherdError

if TYPE_CHECKING:
    from flowherd.backends.graphql.user import UserClient

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


def _client() -> UserClient:
    from flowherd.backends.discovery import client_token, find_api
    from flowherd.backends.graphql.transport import GraphQLTransport
    from flowherd.backends.graphql.user import UserClient
    from flowherd.config import load_settings

    loaded = load_settings()
    api = find_api(loaded)
    if api is None:
        raise BackendUnavailable("no API is known")
    return UserClient(GraphQLTransport(api.address, client_token(loaded, api), _TIMEOUT_S))
