"""The service that runs an agent with the present settings.

Settings from files are left out, because the service reads the files itself; what this command line, this environment
or a profile of Prefect says has to be part of the service.
"""

from __future__ import annotations

import pwd
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flowherd.agent.control_path import SOCKET_FILE
from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.options import FLAGS, OnStopChoice
from flowherd.cli.printing import print_note
from flowherd.config import LoadedSettings, Source
from flowherd.config.catalogue import value_of
from flowherd.config.loading import HOME_VARIABLE
from flowherd.supervisord.service_files import STOP_MARGIN_S, Service

#: The settings that become options of `flowherd start`.
_AS_OPTIONS = (
    "cloud.agent.labels",
    "cloud.agent.agent_address",
    "prefect3.pool",
    "prefect3.work_queues",
    "agent.limit",
    "runs.isolation.level",
    "runs.isolation.network",
)


def agent_service(
    loaded: LoadedSettings,
    *,
    name: str,
    runtimes: Sequence[str],
    variables: Mapping[str, str],
    environment_file: Path | None,
    user: str | None,
    on_stop: OnStopChoice,
    log_file: Path | None = None,
) -> Service:
    """Return the service. `runtimes` are the values of --runtime; `variables` are added to its environment."""
    agent = loaded.settings.agent
    options = ["--name", loaded.settings.cloud.agent.name, *_options(loaded, runtimes), "--on-stop", on_stop.value]
    return Service(
        name=name,
        # Not resolved: the python of a virtual environment is a link to one outside the environment.
        argv=[str(Path(sys.executable).absolute()), "-m", "flowherd", "start", *options],
        environment={HOME_VARIABLE: str(_home(loaded, user)), **user_variables(user), **_api(loaded), **variables},
        environment_file=environment_file,
        user=user,
        directory=Path("/"),
        stop_wait_s=round(agent.drain_deadline + agent.grace + STOP_MARGIN_S),
        log_file=log_file,
    )


def control_socket(loaded: LoadedSettings, user: str | None) -> Path:
    """Return where the service's agent will have its control socket."""
    place, home = loaded.paths.state_dir, loaded.paths.home
    return (_home(loaded, user) / place.relative_to(home) if place.is_relative_to(home) else place) / SOCKET_FILE


def user_variables(user: str | None) -> dict[str, str]:
    """Return the variables that supervisord does not change with the user (http://supervisord.org/subprocess.html).

    Raises CommandError if there is no such user.
    """
    if user is None:
        return {}
    try:
        home = pwd.getpwnam(user).pw_dir
    except KeyError:
        raise CommandError(f"--user: there is no user {user!r} on this host", exit_codes.NOT_FOUND) from None
    return {"HOME": home, "USER": user, "LOGNAME": user}


def _options(loaded: LoadedSettings, runtimes: Sequence[str]) -> list[str]:
    words = []
    for setting in _AS_OPTIONS:
        if _is_only_here(loaded, setting):
            value = value_of(loaded.settings, setting)
            words += [
                word for item in (value if isinstance(value, list) else [value]) for word in (FLAGS[setting], str(item))
            ]
    return words + [word for text in runtimes for word in (FLAGS["runtimes"], text)]


def _api(loaded: LoadedSettings) -> dict[str, str]:
    """Return the variable with the address of the API, unless a file of the service's home has it."""
    own = loaded.settings.prefect3
    if not loaded.settings.uses_work_pool:
        return {"FLOWHERD__CLOUD__API": loaded.settings.cloud.api} if _is_only_here(loaded, "cloud.api") else {}
    if loaded.origins["cloud.api"].source is Source.ARGUMENT:
        return {"FLOWHERD__PREFECT3__API": loaded.settings.cloud.api}
    if own.api and (_is_only_here(loaded, "prefect3.api") or _is_from_profile(loaded)):
        return {"FLOWHERD__PREFECT3__API": own.api}
    if not own.api and not loaded.settings.cloud.api:
        print_note("note: no address of the Prefect 3 server is known here; give it with --api URL")
    return {}


def _is_only_here(loaded: LoadedSettings, setting: str) -> bool:
    """Return whether a setting comes from this command line or this environment, which the service will not have."""
    return loaded.origins[setting].source in (Source.ARGUMENT, Source.ENVIRONMENT)


def _is_from_profile(loaded: LoadedSettings) -> bool:
    """Return whether the address comes from this person's profile of Prefect 3, which the service will not have."""
    return loaded.origins["prefect3.api"].source is Source.PREFECT_FILE


def _home(loaded: LoadedSettings, user: str | None) -> Path:
    """Return flowherd's home for the service: the one that was given, else that of the service's user."""
    if user is None or loaded.origins["home"].source is not Source.DEFAULT:
        return loaded.paths.home
    return Path(user_variables(user)["HOME"]) / ".flowherd"
