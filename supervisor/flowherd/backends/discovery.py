"""Which backend an agent or a client is to use: the configured one, else the embedded server that runs on this host."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from flowherd.config import LoadedSettings

#: How long a running server may take to say that it is well.
_HEALTH_TIMEOUT_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Api:
    """An API that was found."""

    address: str
    #: In words: the setting's source, or the file of the running server.
    found_by: str
    #: The process, where it is the server that runs in this home; else None.
    embedded_pid: int | None = None


def find_api(loaded: LoadedSettings) -> Api | None:
    """The API of the settings, else the running embedded server, else None."""
    if loaded.settings.cloud.api:
        return Api(address=loaded.settings.cloud.api, found_by=str(loaded.origins["cloud.api"]))
    return running_server(loaded.paths.server_file)


def running_server(server_file: Path) -> Api | None:
    """The embedded server that wrote this file, if it still lives and says that it is well."""
    try:
        written = json.loads(server_file.read_text(encoding="utf-8"))
        address, pid = str(written["url"]), int(written["pid"])
    except (OSError, ValueError, KeyError, TypeError):  # not there, or half of a crash: then there is no server
        return None
    if not psutil.pid_exists(pid) or not _is_well(address):
        return None
    return Api(address=address, found_by=str(server_file), embedded_pid=pid)


def client_token(loaded: LoadedSettings, api: Api) -> str:
    """The token of a person's commands: their own, else the agent's, else that of the embedded server for it alone."""
    settings = loaded.settings
    server_token = settings.server.token if api.embedded_pid else ""
    return settings.cloud.auth_token or settings.cloud.agent.auth_token or server_token


def _is_well(address: str) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"{address}/health", timeout=_HEALTH_TIMEOUT_S).ok
    except requests.RequestException:
        return False
