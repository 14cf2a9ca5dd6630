"""`flowherd install`: prints the configuration that runs an agent, or a `prefect server`, as a service.

`install supervisord` (supervisord_command.py) and `install systemd` (systemd_command.py) have most options in common.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowherd.cli import parse_options
from flowherd.cli.install import supervisord_command, systemd_command
from flowherd.cli.install.service_options import (
    ServiceEnvOption,
    ServiceOption,
    ServiceUserOption,
)
from flowherd.cli.printing import print_file, print_note

if TYPE_CHECKING:
    from flowherd.supervisord.service_files import Service

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
    family.command("supervisord", epilog=supervisord_command.EXAMPLES)(supervisord_command.supervisord)
    family.command("systemd", epilog=systemd_command.EXAMPLES)(systemd_command.systemd)
    family.command("prefect-server", epilog=_SERVER_EXAMPLE)(prefect_server)
    app.add_typer(family, name="install")


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
