"""`flowherd install`: prints the configuration that runs an agent, or a `prefect server`, as a service.

`install supervisord` and `install systemd` (systemd_command.py) have most options in common.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowherd.cli import parse_options
from flowherd.cli.install import systemd_command
from flowherd.cli.install.service_options import (
    AuthStringFileOption,
    EnvFileOption,
    ServiceEnvOption,
    ServiceOnStopOption,
    ServiceOption,
    ServiceUserOption,
    TokenFileOption,
    WriteTokenOption,
)
from flowherd.cli.options import (
    AgentAddressOption,
    AgentApiOption,
    HomeOption,
    LabelOption,
    LimitOption,
    NameOption,
    OnStopChoice,
    PoolOption,
    RuntimeOption,
    WorkQueueOption,
    require_work_pool,
    settings_from,
)
from flowherd.cli.printing import print_file, print_note

if TYPE_CHECKING:
    from flowherd.supervisord.service_files import Service

_SUPERVISORD_EXAMPLE = "Example:  flowherd install supervisord -n web1 > /etc/supervisor/conf.d/flowherd.conf"
_SERVER_EXAMPLE = (
    "Example:  flowherd install prefect-server systemd /opt/prefect-3 --user prefect "
    "--env-file /etc/flowherd/prefect-server.env > /etc/systemd/system/prefect-server.service"
)
#: The variable that a Prefect server's environment file needs at least.
_DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
#: How long a Prefect server may take to stop, seconds.
_SERVER_STOP_S = 30


class Manager(str, Enum):
    """The program that manages services on a host."""

    SUPERVISORD = "supervisord"
    SYSTEMD = "systemd"


def add_to(app: typer.Typer) -> None:
    """Add the command and its subcommands to the program."""
    family = typer.Typer(help="Print the configuration that runs an agent as a service.", no_args_is_help=True)
    family.command("supervisord", epilog=_SUPERVISORD_EXAMPLE)(supervisord)
    family.command("systemd", epilog=systemd_command.EXAMPLES)(systemd_command.systemd)
    family.command("prefect-server", epilog=_SERVER_EXAMPLE)(prefect_server)
    app.add_typer(family, name="install")


def supervisord(
    name: NameOption = None,
    label: LabelOption = None,
    api: AgentApiOption = None,
    pool: PoolOption = None,
    work_queue: WorkQueueOption = None,
    runtime: RuntimeOption = None,
    limit: LimitOption = None,
    agent_address: AgentAddressOption = None,
    env: ServiceEnvOption = None,
    env_file: EnvFileOption = None,
    user: ServiceUserOption = None,
    home: HomeOption = None,
    on_stop: ServiceOnStopOption = OnStopChoice.DETACH,
    service: ServiceOption = "flowherd",
    token_file: TokenFileOption = None,
    auth_string_file: AuthStringFileOption = None,
    write_token_file: WriteTokenOption = False,
) -> None:
    """Print a supervisord program section for the agent; runs survive a restart of the service."""
    from flowherd.cli.install import credential_files
    from flowherd.cli.install.agent_service import agent_service
    from flowherd.supervisord.service_files import supervisord_section

    loaded = settings_from(
        home=home,
        name=name,
        label=label,
        agent_address=agent_address,
        api=api,
        pool=pool,
        work_queue=work_queue,
        runtime=runtime,
        limit=limit,
    )
    if work_queue:
        require_work_pool(loaded, "--work-queue")
    secrets = credential_files.credentials(loaded, token_file, auth_string_file)
    credential_files.write_or_note(loaded, secrets, write=write_token_file, user=user)
    made = agent_service(
        loaded,
        name=service,
        runtimes=runtime or [],
        variables={**credential_files.variables(secrets), **parse_options.pairs(env, "-e")},
        environment_file=_absolute(env_file) if env_file else None,
        user=user,
        on_stop=on_stop,
    )
    print_file(supervisord_section(made).rstrip())


def prefect_server(
    manager: Annotated[Manager, typer.Argument(help="The program that manages services on this host.")],
    environment: Annotated[str, typer.Argument(metavar="VENV", help="The virtual environment that has Prefect 3.")],
    env_file: Annotated[
        str,
        typer.Option(metavar="FILE", help=f"A file of mode 0600 with NAME='VALUE' lines: {_DATABASE} and others."),
    ],
    user: ServiceUserOption = None,
    env: ServiceEnvOption = None,
    service: ServiceOption = "prefect-server",
) -> None:
    """Print the configuration of a `prefect server`, which the agents of work pools share.

    Its address, its database and all passwords belong in the environment file, never in the configuration.
    """
    from flowherd.cli.install.agent_service import user_variables
    from flowherd.supervisord.service_files import Service

    program, file = _absolute(environment) / "bin" / "prefect", _absolute(env_file)
    if not program.exists():
        print_note(
            f"note: there is no {program}; create it: python3 -m venv {environment}, then pip install 'prefect>=3,<4'"
        )
    if not file.exists():
        print_note(
            f"note: create {file} before the service starts: umask 077; cat > {file}; it needs {_DATABASE}='...'"
        )
    made = Service(
        name=service,
        argv=[str(program), "server", "start"],
        environment={**user_variables(user), **parse_options.pairs(env, "-e")},
        environment_file=file,
        user=user,
        directory=Path("/"),
        stop_wait_s=_SERVER_STOP_S,
    )
    print_file(_server_text(manager, made))


def _server_text(manager: Manager, service: Service) -> str:
    from flowherd.supervisord.service_files import server_section, server_unit

    return (server_section if manager is Manager.SUPERVISORD else server_unit)(service).rstrip()


def _absolute(text: str) -> Path:
    return Path(text).expanduser().absolute()
