"""How a client command finds the API: --api, then the settings, then the embedded server that runs on this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowherd.cli.exit_codes import UNREACHABLE
from flowherd.cli.failures import CommandError

if TYPE_CHECKING:
    from flowherd.client.user import UserClient
    from flowherd.config import LoadedSettings


def open_client(api: str | None) -> tuple[UserClient, LoadedSettings]:
    """A client on the API that is to be used. Raises CommandError when there is none."""
    # Lazy here and in the commands: requests and pydantic are most of the start-up time, and --help needs neither.
    from flowherd.backends.discovery import client_token, find_api
    from flowherd.backends.graphql.transport import GraphQLTransport
    from flowherd.client.user import UserClient
    from flowherd.config import load_settings

    loaded = load_settings({"cloud.api": api}, argument_names={"cloud.api": "--api"})
    pool = loaded.settings.prefect3.pool
    if pool and not api:
        raise CommandError(
            f"the settings name the work pool {pool!r} (from {loaded.origins['prefect3.pool']}); Prefect's own command "
            "speaks with its server: `prefect flow-run ls`, `inspect`, `logs`, `cancel`. flowherd's explain and logs "
            "tell what lies on this host, and --api asks a server of Prefect 0.x/1.x",
            UNREACHABLE,
        )
    found = find_api(loaded)
    if found is None:
        raise CommandError(
            f"no API is known: none is set (--api, FLOWHERD__CLOUD__API) and no embedded server runs "
            f"under {loaded.paths.home}; start one with `flowherd start` or `flowherd server`",
            UNREACHABLE,
        )
    transport = GraphQLTransport(found.address, client_token(loaded, found), loaded.settings.cloud.request_timeout)
    return UserClient(transport), loaded
