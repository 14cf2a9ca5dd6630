"""Find the API to use: the configured one, else the embedded server that runs on this host."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from flowherd.config import LoadedSettings

#: Time-out of the health check of a running server, seconds.
_HEALTH_TIMEOUT_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Api:
    """An API that was found."""

    address: str
    #: How it was found, for messages: the setting's source, or the file of the running server.
    found_by: str
    #: Pid of the embedded server that runs in this home; None for any other server.
    embedded_pid: int | None = None


def find_api(loaded: LoadedSettings) -> Api | None:
    """Return the API of the settings, else the running embedded server, else None."""
    if loaded.settings.cloud.api:
        return Api(address=loaded.settings.cloud.api, found_by=str(loaded.origins["cloud.api"]))
    return running_server(loaded.paths.server_file)


def running_server(server_file: Path) -> Api | None:
    """Return the embedded server that wrote this file, if it is alive and healthy."""
    try:
        written = json.loads(server_file.read_text(encoding="utf-8"))
        address, pid = str(written["url"]), int(written["pid"])
    except (OSError, ValueError, KeyError, TypeError):  # no file, or a damaged one: no server
        return None
    if not psutil.pid_exists(pid) or not _is_healthy(address):
        return None
    return Api(address=address, found_by=str(server_file), embedded_pid=pid)


def client_token(loaded: LoadedSettings, api: Api) -> str:
    """Return the token for client commands.

    The commands' own, else the agent's, else the embedded server's, which is sent to that server only.
    """
    settings = loaded.settings
    server_token = settings.server.token if api.embedded_pid else ""
    return settings.cloud.auth_token or settings.cloud.agent.auth_token or server_token


def _is_healthy(address: str) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"{address}/health", timeout=_HEALTH_TIMEOUT_S).ok
    except requests.RequestException:
        return False
