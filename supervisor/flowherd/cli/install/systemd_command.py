"""`flowherd install systemd`: prints a unit that runs an agent, for this host's version of systemd or for another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from flowherd.cli import exit_codes, parse_options
from flowherd.cli.failures import CommandError
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
from flowherd.cli.isolation_options import StartIsolationOption, StartNetworkOption
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
    from flowherd.config import LoadedSettings

EXAMPLES = """
Examples:

  flowherd install systemd --user flow > /etc/systemd/system/flowherd.service

  flowherd install systemd --template --systemd-version 252 > flowherd@.service

  flowherd install systemd --user-unit > ~/.config/systemd/user/flowherd.service

  flowherd install systemd --socket --agent-address http://127.0.0.1:8080 > flowherd.socket
"""
#: Shortest time without contact after which systemd starts the agent again, seconds, and the same in time-outs of
#: requests.
_WATCHDOG_S, _WATCHDOG_TIMEOUTS = 300, 20


def systemd(
    name: NameOption = None,
    label: LabelOption = None,
    api: AgentApiOption = None,
    pool: PoolOption = None,
    work_queue: WorkQueueOption = None,
    runtime: RuntimeOption = None,
    limit: LimitOption = None,
    isolation: StartIsolationOption = None,
    network: StartNetworkOption = None,
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
    systemd_version: Annotated[
        int | None,
        typer.Option(min=240, metavar="N", help="Version of systemd for which it is (default: that of this host)."),
    ] = None,
    user_unit: Annotated[bool, typer.Option("--user-unit", help="For your own systemd (systemctl --user).")] = False,
    is_template: Annotated[
        bool, typer.Option("--template", help="A template: flowherd@NAME runs the agent of that name.")
    ] = False,
    is_socket: Annotated[
        bool, typer.Option("--socket", help="Print the socket unit that opens the --agent-address instead.")
    ] = False,
) -> None:
    """Print a systemd unit for the agent; runs survive a restart of the service."""
    from flowherd.cli.install import credential_files
    from flowherd.cli.install.agent_service import agent_service
    from flowherd.supervisord import systemd_units

    _refuse_together(user_unit, "--user-unit", user is not None, "--user")
    _refuse_together(is_template, "--template", name is not None, "--name")
    _refuse_together(is_template, "--template", agent_address is not None, "--agent-address")
    loaded = settings_from(
        home=home,
        name=systemd_units.INSTANCE if is_template else name,
        label=label,
        agent_address=agent_address,
        api=api,
        pool=pool,
        work_queue=work_queue,
        runtime=runtime,
        limit=limit,
        isolation=isolation,
        network=network,
    )
    if work_queue:
        require_work_pool(loaded, "--work-queue")
    secrets = credential_files.credentials(loaded, token_file, auth_string_file)
    options = systemd_units.UnitOptions(
        version=_version(systemd_version),
        is_users=user_unit,
        is_template=is_template,
        watchdog_s=max(_WATCHDOG_S, round(_WATCHDOG_TIMEOUTS * loaded.settings.cloud.request_timeout)),
        secrets=credential_files.files(secrets),
    )
    if not is_socket:
        # What systemd loads as root stays root's.
        owner = None if options.has_credentials else user
        credential_files.write_or_note(loaded, secrets, write=write_token_file, user=owner)
    made = agent_service(
        loaded,
        name=service,
        runtimes=runtime or [],
        variables=parse_options.pairs(env, "-e"),
        environment_file=Path(env_file).expanduser().absolute() if env_file else None,
        user=user,
        on_stop=on_stop,
    )
    if is_socket:
        print_file(systemd_units.socket_unit(made, options, _listen(loaded)).rstrip())
    else:
        print_file(systemd_units.systemd_unit(made, options).rstrip())


def _refuse_together(one: bool, its_flag: str, other: bool, other_flag: str) -> None:
    if one and other:
        raise CommandError(f"{its_flag} and {other_flag} exclude each other", exit_codes.USAGE)


def _version(given: int | None) -> int:
    """Return the version to print for; 0 if it is not known."""
    from flowherd.supervisord.systemd_units import systemd_version

    found = systemd_version() if given is None else given
    if found is None:
        print_note("note: there is no systemd here; the unit is for any version from 240 on: see --systemd-version N")
    return found or 0


def _listen(loaded: LoadedSettings) -> str:
    """Return what the socket unit listens on. Raises CommandError if no address is known."""
    address = loaded.settings.cloud.agent.agent_address
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise CommandError(f"--agent-address {address!r}: {error}", exit_codes.USAGE) from None
    if not address or port is None:
        raise CommandError(
            "--socket opens the address of the agent's API; name it: --agent-address http://127.0.0.1:8080",
            exit_codes.USAGE,
        )
    host = "127.0.0.1" if host in (None, "localhost") else host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
