"""What keeps all runs of one agent apart at least, and what of this host none of them sees: flowherd's own files."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from flowherd.agent.claim_lock import lock_directories
from flowherd.agent.passed_sockets import passed_listener
from flowherd.config import LoadedSettings
from flowherd.config.catalogue import SETTINGS
from flowherd.config.settings import Settings
from flowherd.errors import DeployError
from flowherd.isolation.levels import real_paths
from flowherd_runner.contract.isolation import LEVELS, Isolation

#: A supervisord gives its programs the place of its socket; over it, programs of its user can be started.
_SUPERVISOR_URL = "SUPERVISOR_SERVER_URL"


def floor_of(settings: Settings, loaded: LoadedSettings, environ: Mapping[str, str]) -> Isolation:
    """Return what these settings ask for. `loaded` are those of the agent's start, which say where its files are.

    `environ` is the agent's environment. What is covered is named by its real paths, and as the settings name it if
    there is a link in that: a link may lead to another file later, as those of mounted secrets do.
    """
    own = [str(path) for path in _own_places(settings, loaded, environ)]
    asked = settings.runs.isolation
    return Isolation(
        level=asked.level,
        network=asked.network,
        if_missing=asked.if_missing,
        write=tuple(asked.write),
        hide=tuple(asked.hide),
        covered=tuple(dict.fromkeys([*real_paths(own), *(path for path in own if path.startswith("/"))])),
    )


def check_floor(planned: Isolation, floor: Isolation) -> None:
    """Raise DeployError for a run that was planned with less than `floor`, by an agent with other settings."""
    has_less = LEVELS.index(planned.level) < LEVELS.index(floor.level)
    if has_less or (floor.network == "none" and planned.network != "none"):
        asked = floor.level if has_less else "no network"
        raise DeployError(
            f"It was planned before this agent was set to run all flows with more isolation ({asked}), so it was not "
            "started; run it again."
        )


def _own_places(settings: Settings, loaded: LoadedSettings, environ: Mapping[str, str]) -> Iterator[Path]:
    paths = loaded.paths
    yield from (paths.home, paths.state_dir, paths.data_dir, paths.token_file, paths.config_file)
    if settings.runs.users_work_dir:
        yield Path(settings.runs.users_work_dir)
    yield from _files_with_secrets(settings, loaded)
    yield from lock_directories(environ)
    # Locks of release 0.1.0. In /tmp they are out of sight because the whole of it is.
    yield from Path(tempfile.gettempdir()).glob(f"flowherd-claims-{os.getuid()}-*.lock")
    if (place := _passed_socket()) is not None:
        yield place
    url = environ.get(_SUPERVISOR_URL, "")
    if url.startswith("unix://"):
        yield Path(url.removeprefix("unix://"))


def _passed_socket() -> Path | None:
    """Return the path of the socket that systemd has opened for the agent's API; None if there is none."""
    listener = passed_listener()
    if listener is None:
        return None
    with listener:
        bound = listener.getsockname()
        return Path(bound) if listener.family == socket.AF_UNIX and bound.startswith("/") else None


def _files_with_secrets(settings: Settings, loaded: LoadedSettings) -> Iterator[Path]:
    """Yield the files from which secret settings were read, except those of the engine that gets the same secret."""
    for dotted, origin in loaded.origins.items():
        if SETTINGS[dotted].secret and origin.path is not None and not dotted.startswith("prefect3."):
            yield origin.path
    for channel in settings.notify.channels:
        for place in (channel.webhook, channel.apprise, channel.secret or ""):
            if place.startswith("file:"):
                yield Path(place.removeprefix("file:")).expanduser()
