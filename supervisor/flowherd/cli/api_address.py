"""How a client command finds the API: --api, then the settings, then the embedded server that runs on this host."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowherd.cli.exit_codes import UNREACHABLE
from flowherd.cli.failures import CommandError

if TYPE_CHECKING:
    from flowherd.backends.graphql.user import UserClient
    from flowherd.config import LoadedSettings

#: How long a running server may take to say that it is well.
_HEALTH_TIMEOUT_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Api:
    """An API that was found."""

    address: str
    #: In words: the flag, the setting's source, or the file of the running server.
    found_by: str
    #: The process, where it is the server that runs in this home; else None.
    embedded_pid: int | None = None


def open_client(api: str | None) -> tuple[UserClient, LoadedSettings]:
    """A client on the API that is to be used. Raises CommandError when there is none."""
    # Lazy here and in the commands: requests and pydantic are most of the start-up time, and --help needs neither.
    from flowherd.backends.graphql.transport import GraphQLTransport
    from flowherd.backends.graphql.user import UserClient
    from flowherd.config import load_settings

    loaded = load_settings({"cloud.api": api}, argument_names={"cloud.api": "--api"})
    found = find_api(loaded)
    transport = GraphQLTransport(found.address, client_token(loaded, found), loaded.settings.cloud.request_timeout)
    return UserClient(transport), loaded


def client_token(loaded: LoadedSettings, api: Api) -> str:
    """The token of the client commands: their own, else the agent's, else that of the embedded server for it alone."""
    settings = loaded.settings
    server_token = settings.server.token if api.embedded_pid else ""
    return settings.cloud.auth_token or settings.cloud.agent.auth_token or server_token


def find_api(loaded: LoadedSettings) -> Api:
    """The API of the settings, else the running embedded server. Raises CommandError when there is none."""
    if loaded.settings.cloud.api:
        return Api(address=loaded.settings.cloud.api, found_by=str(loaded.origins["cloud.api"]))
    running = running_server(loaded.paths.server_file)
    if running is None:
        raise CommandError(
            f"no API is known: none is set (--api, FLOWHERD__CLOUD__API) and no embedded server runs "
            f"under {loaded.paths.home}; start one with `flowherd start` or `flowherd server`",
            UNREACHABLE,
        )
    return running


def running_server(server_file: Path) -> Api | None:
    """The embedded server that wrote this file, if it still lives and says that it is well."""
    import psutil
    import requests

    written = _read(server_file)
    if written is None or not psutil.pid_exists(written[1]):
        return None
    address = written[0]
    try:
        with requests.Session() as session:
            session.trust_env = False
            healthy = session.get(f"{address}/health", timeout=_HEALTH_TIMEOUT_S).ok
    except requests.RequestException:
        return None
    return Api(address=address, found_by=str(server_file), embedded_pid=written[1]) if healthy else None


def _read(server_file: Path) -> tuple[str, int] | None:
    try:
        value = json.loads(server_file.read_text(encoding="utf-8"))
        return str(value["url"]), int(value["pid"])
    except (OSError, ValueError, KeyError, TypeError):  # not there, or half of a crash: then there is no server
        return None
