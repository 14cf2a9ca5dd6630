"""`flowherd install`: print the configuration of an agent, or of a `prefect server`, as a service.

supervisord and systemd share one list of options: the two commands differ in the text that they print.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowherd.cli import completion, exit_codes, parse_options
from flowherd.cli.agent.start import FLAGS, OnStopChoice
from flowherd.cli.failures import CommandError
from flowherd.cli.install import credential_files
from flowherd.cli.output import note, say

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings
    from flowherd.supervisord.service_files import Service

_SUPERVISORD_EXAMPLE = "Example:  flowherd install supervisord -n web1 > /etc/supervisor/conf.d/flowherd.conf"
_SYSTEMD_EXAMPLE = "Example:  flowherd install systemd --user flow > /etc/systemd/system/flowherd.service"
_SERVER_EXAMPLE = (
    "Example:  flowherd install prefect-server systemd /opt/prefect-3 --user prefect "
    "--env-file /etc/flowherd/prefect-server.env > /etc/systemd/system/prefect-server.service"
)
#: What the environment file of a server holds at least; for the note about one that is missing.
_DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


class Manager(str, Enum):
    """Who runs services here."""

    SUPERVISORD = "supervisord"
    SYSTEMD = "systemd"


NameOption = Annotated[str | None, typer.Option("-n", "--name", help="The agent's name (default: the settings')")]
LabelOption = Annotated[list[str] | None, typer.Option("-l", "--label", metavar="LABEL", help="A label; repeatable.")]
ApiAddressOption = Annotated[
    str | None, typer.Option("-a", "--api", metavar="URL", help="API address (default: the embedded server)")
]
PoolOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Serve this work pool of a Prefect 3 server.", autocompletion=completion.pools),
]
WorkQueueOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Only this queue of the pool; repeatable.", autocompletion=completion.queues),
]
RuntimeOption = Annotated[
    list[str] | None, typer.Option(metavar="NAME=PYTHON[;...]", help="As of `flowherd start`; repeatable.")
]
LimitOption = Annotated[int | None, typer.Option(metavar="N", help="Runs at the same time (default: no limit)")]
AgentAddressOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Serve health, runs and metrics here: http://127.0.0.1:8080.")
]
EnvOption = Annotated[
    list[str] | None, typer.Option("-e", "--env", metavar="K=V", help="A variable of the service; no secrets here.")
]
EnvFileOption = Annotated[str | None, typer.Option(metavar="FILE", help="A file of variables; systemd only.")]
UserOption = Annotated[str | None, typer.Option("--user", metavar="NAME", help="Run the service as this user.")]
HomeOption = Annotated[
    str | None, typer.Option("--home", metavar="DIR", help="flowherd's home (default: FLOWHERD_HOME, or the user's)")
]
OnStopOption = Annotated[OnStopChoice, typer.Option(help="What a stop of the service does to the runs.")]
ServiceOption = Annotated[str, typer.Option("--service", metavar="NAME", help="Name of the program or unit.")]
TokenFileOption = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="The file of mode 0600 that holds the API token, or the API key of a --pool."),
]
AuthStringFileOption = Annotated[
    str | None, typer.Option(metavar="FILE", help="The file of mode 0600 that holds NAME:PASSWORD for a --pool.")
]
WriteTokenOption = Annotated[
    bool, typer.Option("--write-token-file", help="Write what is configured, or asked for, to the files named.")
]


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    family = typer.Typer(help="Print the configuration that runs an agent as a service.", no_args_is_help=True)
    family.command("supervisord", epilog=_SUPERVISORD_EXAMPLE)(_agent_command(Manager.SUPERVISORD))
    family.command("systemd", epilog=_SYSTEMD_EXAMPLE)(_agent_command(Manager.SYSTEMD))
    family.command("prefect-server", epilog=_SERVER_EXAMPLE)(prefect_server)
    app.add_typer(family, name="install")


def _agent_command(manager: Manager) -> Callable[..., None]:
    def command(
        name: NameOption = None,
        label: LabelOption = None,
        api: ApiAddressOption = None,
        pool: PoolOption = None,
        work_queue: WorkQueueOption = None,
        runtime: RuntimeOption = None,
        limit: LimitOption = None,
        agent_address: AgentAddressOption = None,
        env: EnvOption = None,
        env_file: EnvFileOption = None,
        user: UserOption = None,
        home: HomeOption = None,
        on_stop: OnStopOption = OnStopChoice.DETACH,
        service: ServiceOption = "flowherd",
        token_file: TokenFileOption = None,
        auth_string_file: AuthStringFileOption = None,
        write_token_file: WriteTokenOption = False,
    ) -> None:
        from flowherd.config import load_settings

        given = {
            "home": home,
            "cloud.agent.name": name,
            "cloud.agent.labels": label or None,
            "cloud.agent.agent_address": agent_address,
            "cloud.api": api,
            "prefect3.pool": pool,
            "prefect3.work_queues": work_queue or None,
            "runtimes": runtime or None,
            "agent.limit": limit,
        }
        loaded = load_settings(given, argument_names={"home": "--home", **FLAGS})
        if work_queue and not loaded.settings.prefect3.pool:
            raise CommandError("--work-queue is a queue of a work pool; name that with --pool", exit_codes.USAGE)
        secrets = credential_files.of_agent(loaded, token_file, auth_string_file)
        credential_files.see_to(loaded, secrets, write_token_file, user)
        variables = {**credential_files.variables(secrets), **parse_options.pairs(env, "-e")}
        made = _agent(loaded, service, runtime or [], variables, user, on_stop)
        say(_text(manager, replace(made, environment_file=_path(env_file) if env_file else None)))

    form = "a supervisord program section" if manager is Manager.SUPERVISORD else "a systemd unit"
    command.__doc__ = f"""Print {form} for the agent; its runs survive a restart of it."""
    return command


def prefect_server(
    manager: Annotated[Manager, typer.Argument(help="Who runs services here.")],
    environment: Annotated[str, typer.Argument(metavar="VENV", help="The virtual environment that has Prefect 3.")],
    env_file: Annotated[
        str,
        typer.Option(metavar="FILE", help=f"A file of mode 0600 with NAME='VALUE' lines: {_DATABASE} and the like."),
    ],
    user: UserOption = None,
    env: EnvOption = None,
    service: ServiceOption = "prefect-server",
) -> None:
    """Print the configuration of a `prefect server`, which the agents of work pools share.

    Its address, its database with the password and its own credentials are in the environment file, never in the
    configuration.
    """
    from flowherd.supervisord.service_files import Service

    program, file = _path(environment) / "bin" / "prefect", _path(env_file)
    if not program.exists():
        note(f"note: there is no {program}; make it: python3 -m venv {environment}, then pip install 'prefect>=3,<4'")
    if not file.exists():
        note(f"note: make {file} before the service starts: umask 077; cat > {file}; it has {_DATABASE}='...'")
    made = Service(
        name=service,
        argv=[str(program), "server", "start"],
        environment={**_user_variables(user), **parse_options.pairs(env, "-e")},
        environment_file=file,
        user=user,
        directory=Path("/"),
        stop_wait_s=30,
    )
    say(_server_text(manager, made))


def _text(manager: Manager, service: Service) -> str:
    from flowherd.supervisord.service_files import supervisord_section, systemd_unit

    return (supervisord_section if manager is Manager.SUPERVISORD else systemd_unit)(service).rstrip()


def _server_text(manager: Manager, service: Service) -> str:
    from flowherd.supervisord.service_files import server_section, server_unit

    return (server_section if manager is Manager.SUPERVISORD else server_unit)(service).rstrip()


def _agent(
    loaded: LoadedSettings,
    service: str,
    runtimes: list[str],
    variables: dict[str, str],
    user: str | None,
    on_stop: OnStopChoice,
) -> Service:
    import sys

    from flowherd.supervisord.service_files import STOP_MARGIN_S, Service

    agent = loaded.settings.agent
    words = ["start", "--name", loaded.settings.cloud.agent.name, *_words(loaded, runtimes)]
    return Service(
        name=service,
        # Not resolved: a virtual environment's python is a link, and what it links to is not the environment.
        argv=[str(Path(sys.executable).absolute()), "-m", "flowherd", *words, "--on-stop", on_stop.value],
        environment={"FLOWHERD_HOME": str(_home(loaded, user)), **_user_variables(user), **_api(loaded), **variables},
        user=user,
        directory=Path("/"),
        stop_wait_s=round(agent.drain_deadline + agent.grace + STOP_MARGIN_S),
    )


def _words(loaded: LoadedSettings, runtimes: list[str]) -> list[str]:
    """What was given on the command line or stands in the environment; what is in a file, the service reads there."""
    own, cloud = loaded.settings.prefect3, loaded.settings.cloud
    given = {
        "cloud.agent.labels": [("--label", label) for label in cloud.agent.labels],
        "cloud.agent.agent_address": [("--agent-address", cloud.agent.agent_address)],
        "prefect3.pool": [("--pool", own.pool)],
        "prefect3.work_queues": [("--work-queue", queue) for queue in own.work_queues],
        "agent.limit": [("--limit", str(loaded.settings.agent.limit))],
    }
    pairs = [pair for dotted, found in given.items() if _is_of_here(loaded, dotted) for pair in found]
    pairs += [("--runtime", text) for text in runtimes]
    return [word for pair in pairs for word in pair]


def _api(loaded: LoadedSettings) -> dict[str, str]:
    """The address, where no file of the service's home says it."""
    pool = loaded.settings.prefect3
    if not pool.pool:
        return {"FLOWHERD__CLOUD__API": loaded.settings.cloud.api} if _is_of_here(loaded, "cloud.api") else {}
    if _is_of_here(loaded, "cloud.api", only_typed=True):
        return {"FLOWHERD__PREFECT3__API": loaded.settings.cloud.api}
    if pool.api and _is_of_here(loaded, "prefect3.api"):
        return {"FLOWHERD__PREFECT3__API": pool.api}
    if not pool.api and not loaded.settings.cloud.api:
        note("note: no address of the Prefect 3 server is known here; give it with --api URL")
    return {}


def _is_of_here(loaded: LoadedSettings, dotted: str, *, only_typed: bool = False) -> bool:
    """Whether a setting is of this command line or environment, or a profile of Prefect's, which a service lacks."""
    from flowherd.config import Source

    typed = loaded.origins[dotted].source is Source.ARGUMENT
    others = (Source.ENVIRONMENT, Source.PREFECT_FILE) if dotted == "prefect3.api" else (Source.ENVIRONMENT,)
    return typed or (not only_typed and loaded.origins[dotted].source in others)


def _home(loaded: LoadedSettings, user: str | None) -> Path:
    """flowherd's home for the service: the one that was given, else the one of the user that it runs as."""
    from flowherd.config import Source

    if user is None or loaded.origins["home"].source is not Source.DEFAULT:
        return loaded.paths.home
    return Path(_user_variables(user)["HOME"]) / ".flowherd"


def _user_variables(user: str | None) -> dict[str, str]:
    """What supervisord leaves as it is when it changes the user (http://supervisord.org/subprocess.html)."""
    import pwd

    if user is None:
        return {}
    try:
        home = pwd.getpwnam(user).pw_dir
    except KeyError:
        raise CommandError(f"--user: there is no user {user!r} on this host", exit_codes.NOT_FOUND) from None
    return {"HOME": home, "USER": user, "LOGNAME": user}


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()
