"""Find the API to use: the configured one, else the embedded server that runs on this host."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from flowherd.backends import plain_http
from flowherd.config import LoadedSettings
from flowherd.errors import ConfigurationError
from flowherd.private_directory import check_private_directory, reason_against

#: Time-out of the health check of a running server, seconds.
_HEALTH_TIMEOUT_S = 3.0
#: Longest server.json that is read, bytes.
_MAX_FILE_BYTES = 64 * 1024
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


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
    cloud = loaded.settings.cloud
    if not cloud.api and not cloud.graphql:
        return running_server(loaded.paths.server_file)
    setting = "cloud.api" if cloud.api else "cloud.graphql"
    found = Api(address=cloud.api or cloud.graphql, found_by=str(loaded.origins[setting]))
    if _is_place_of_embedded_server(loaded) or _may_be_own_server(loaded, found.address):
        running = running_server(loaded.paths.server_file)
        if running is not None and urlsplit(running.address).port == urlsplit(found.address).port:
            return running
    return found


def is_left_to_embedded_server(loaded: LoadedSettings) -> bool:
    """Return whether an agent is to use an embedded server, and to start one if none runs.

    That is so if no API is set. Prefect's address of a server on this host is none either if it is where the embedded
    server listens and nothing answers there: people export it for their clients before they start the server.
    """
    cloud = loaded.settings.cloud
    if not cloud.api and not cloud.graphql:
        return True
    return _is_place_of_embedded_server(loaded) and not _answers(cloud.api)


def _is_place_of_embedded_server(loaded: LoadedSettings) -> bool:
    """Return whether the API is only known as Prefect's address of a server, and the embedded one would have it."""
    origin, parts = loaded.origins["cloud.api"], urlsplit(loaded.settings.cloud.api)
    is_of_prefects_server = origin.name.startswith("PREFECT__SERVER__") or origin.key.startswith("server.")
    is_here = parts.hostname in _LOCAL_NAMES and parts.port == loaded.settings.server.bind_port
    return is_of_prefects_server and is_here


def _may_be_own_server(loaded: LoadedSettings, address: str) -> bool:
    """Return whether the embedded server of this home may be at an address that is set, and gets its token there.

    Only the token that was made for this user's programs: one that is set may be meant for another server.
    """
    has_file = loaded.origins["server.token"].path == loaded.paths.token_file
    return has_file and urlsplit(address).hostname in _LOCAL_NAMES


def _answers(address: str) -> bool:
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=_HEALTH_TIMEOUT_S):
            return True
    except OSError:
        return False


def running_server(server_file: Path) -> Api | None:
    """Return the embedded server that wrote this file, if it is alive and healthy.

    Raises ConfigurationError if another user could have put the file there.
    """
    written = _written_by_server(server_file)
    if written is None or not _is_healthy(written.url):
        return None
    return Api(address=written.url, found_by=str(server_file), embedded_pid=written.pid)


def data_dir_of_running_server(server_file: Path) -> Path | None:
    """Return the data directory of the embedded server that wrote this file, if it is alive, healthy or not.

    Raises ConfigurationError if another user could have put the file there.
    """
    written = _written_by_server(server_file)
    return None if written is None or not written.data_dir else Path(written.data_dir)


def reload_running_server(server_file: Path) -> int | None:
    """Have the embedded server that wrote this file read its settings again; its log says what came of it.

    Returns its pid; None if there is none, or if it is of a release that SIGHUP ends. Raises ConfigurationError if
    another user could have put the file there.
    """
    written = _written_by_server(server_file)
    if written is None or not written.reloads:
        return None
    try:
        os.kill(written.pid, signal.SIGHUP)
    except OSError:  # it has just ended
        return None
    return written.pid


class _ServerFile(NamedTuple):
    """What server.json says."""

    url: str
    pid: int
    data_dir: str
    #: Whether the server reads its settings again at SIGHUP.
    reloads: bool = False


def _written_by_server(server_file: Path) -> _ServerFile | None:
    """Return what a server that is alive has written; None if there is none.

    The token is sent to the address in the file, so the file must come from this user or from root, and the process
    that it names must be its owner's. Raises ConfigurationError if another user could have put the file there.
    """
    check_private_directory(server_file.parent, "home directory")
    try:
        fd = os.open(server_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _distrusted(server_file, "is a link") from None
        return None  # no server
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        reason = "is not a regular file" if not stat.S_ISREG(status.st_mode) else _reason_against(status)
        if reason is not None:
            raise _distrusted(server_file, reason)
        try:
            written = json.loads(file.read(_MAX_FILE_BYTES))
            data_dir, reloads = str(written.get("data_dir") or ""), written.get("reloads") is True
            found = _ServerFile(str(written["url"]), int(written["pid"]), data_dir, reloads)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):  # damaged: no server
            return None
    return found if _belongs_to(found.pid, status.st_uid) else None


def _reason_against(status: os.stat_result) -> str | None:
    """Return why server.json may not be trusted; root's may, because root could do anything anyway."""
    if status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return None
    return reason_against(status)


def _distrusted(server_file: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{server_file} {reason}; no token is sent to the address in it. Remove it, or set the API's address (-a)"
    )


def _belongs_to(pid: int, uid: int) -> bool:
    """Return whether the process lives and is this user's: the pid of a server that was killed may be reused."""
    try:
        status = Path(f"/proc/{pid:d}/status").read_bytes()
    except OSError:
        return False
    owner = next((line.split() for line in status.splitlines() if line.startswith(b"Uid:")), [])
    return len(owner) > 2 and int(owner[2]) == uid  # the effective one, proc_pid_status(5)


def client_token(loaded: LoadedSettings, api: Api) -> str:
    """Return the token for client commands.

    The commands' own, else the agent's, else the embedded server's, which is sent to that server only.
    """
    settings = loaded.settings
    server_token = settings.server.token if api.embedded_pid else ""
    return settings.cloud.auth_token or settings.cloud.agent.auth_token or server_token


def _is_healthy(address: str) -> bool:
    try:
        return plain_http.get(f"{address}/health", _HEALTH_TIMEOUT_S).ok
    except (OSError, ValueError):
        return False
