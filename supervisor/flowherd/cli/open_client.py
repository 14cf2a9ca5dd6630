"""Connects a command to the server that it is meant for: --api, else the settings', else the running embedded one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowherd.cli.exit_codes import UNREACHABLE
from flowherd.cli.failures import CommandError
from flowherd.cli.options import settings_from

if TYPE_CHECKING:
    from flowherd.client.client import Client
    from flowherd.client.user_client import UserClient
    from flowherd.config import LoadedSettings


def open_client(api: str | None) -> tuple[UserClient, LoadedSettings]:
    """Return a client of the server and the settings; `api` is the value of --api.

    Raises CommandError if no server is known, or if it is one of Prefect 3, which has its own command.
    """
    # Imported here, as in all commands: the help of a command needs none of these.
    from flowherd.backends.discovery import find_api
    from flowherd.client.connect import connect

    loaded = settings_from(api=api)
    if loaded.settings.uses_work_pool and not api:
        pool, origin = loaded.settings.prefect3.pool, loaded.origins["prefect3.pool"]
        raise CommandError(
            f"the settings name the work pool {pool!r} (from {origin}), which is on a Prefect 3 server; use Prefect's "
            "own command there: `prefect flow-run ls`, `inspect`, `logs`, `cancel`. `flowherd explain` and "
            "`flowherd logs` show what is stored on this host; --api selects a server of Prefect 0.x/1.x",
            UNREACHABLE,
        )
    found = find_api(loaded)
    if found is None:
        raise CommandError(
            f"no API is known: none is set (--api, FLOWHERD__CLOUD__API) and no embedded server is running for "
            f"{loaded.paths.home}; start one with `flowherd start` or `flowherd server`",
            UNREACHABLE,
        )
    return connect(loaded, found, plain=True), loaded


def open_public_client(api: str | None) -> Client:
    """Return what a program would use for the same, `flowherd.Client`. Raises CommandError as `open_client` does."""
    from flowherd.client.client import Client

    return Client.over(*open_client(api))
