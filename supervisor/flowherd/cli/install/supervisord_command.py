"""`flowherd install supervisord`: prints the section that runs an agent, and those of flowherd's plugins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    SupervisorConfOption,
    SupervisorUrlOption,
    WorkQueueOption,
    require_work_pool,
    settings_from,
)
from flowherd.cli.printing import print_file, print_note

if TYPE_CHECKING:
    from flowherd.supervisord.plugin_import import Interpreter

EXAMPLES = """
Examples:

  flowherd install supervisord -n web1 > /etc/supervisor/conf.d/flowherd.conf

  flowherd install supervisord --plugins --supervisor-conf /etc/supervisor/supervisord.conf
"""


def supervisord(
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
    stdout_logfile: Annotated[
        str | None, typer.Option(metavar="FILE", help="File for the agent's log (default: below /var/log for root).")
    ] = None,
    plugins: Annotated[
        bool, typer.Option("--plugins", help="Switch flowherd's plugins on, if supervisord's Python can import them.")
    ] = False,
    supervisor_python: Annotated[
        str | None,
        typer.Option(metavar="PYTHON", help="The interpreter that runs supervisord (default: found out)."),
    ] = None,
    supervisor_url: SupervisorUrlOption = None,
    supervisor_conf: SupervisorConfOption = None,
) -> None:
    """Print a supervisord program section for the agent; runs survive a restart of the service.

    The sections of flowherd's plugins follow as comments. --plugins prints them as such once it has seen that the
    interpreter that runs supervisord can import them, and exits 1 if it cannot.
    """
    from flowherd.cli.install import credential_files
    from flowherd.cli.install.agent_service import agent_service, control_socket
    from flowherd.supervisord.plugin_sections import plugin_sections
    from flowherd.supervisord.service_files import stdout_log, supervisord_section

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
        isolation=isolation,
        network=network,
    )
    if work_queue:
        require_work_pool(loaded, "--work-queue")
    log_file = _absolute(stdout_logfile) if stdout_logfile else stdout_log(service, loaded.paths.home)
    if not log_file.parent.is_dir():
        print_note(f"note: create {log_file.parent}; supervisord does not start with a log in a missing directory")
    interpreter, line = _plugins(supervisor_python, supervisor_url, supervisor_conf, are_wanted=plugins)
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
        log_file=log_file,
    )
    socket, shown = control_socket(loaded, user), str(interpreter or "")
    sections = plugin_sections(socket, made, are_on=plugins, line=line, interpreter=shown)
    print_file(supervisord_section(made).rstrip() + "\n\n" + sections.rstrip())


def _absolute(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _plugins(
    python: str | None, url: str | None, configuration: str | None, *, are_wanted: bool
) -> tuple[Interpreter | None, str]:
    """Return the interpreter that runs supervisord, and the line that makes the plugins importable for it.

    The line is empty if they are importable. Raises CommandError if they are wanted and are not.
    """
    from flowherd.supervisord import plugin_import
    from flowherd.supervisord.rpc import SupervisordError, find_access

    try:
        named = plugin_import.named(python) if python else None
        interpreter = named or plugin_import.interpreter_of(find_access(url, configuration))
        problem = plugin_import.import_problem(interpreter)
        line = plugin_import.importable_line(interpreter) if problem else ""
    except SupervisordError as error:
        if are_wanted:
            raise CommandError(f"the plugins are not switched on: {error}") from error
        return None, ""
    if problem and are_wanted:
        raise CommandError(
            f"the plugins are not switched on, because supervisord would not start with them: {interpreter} cannot "
            f"import them ({problem}); make them importable, and repeat this command: {line}",
            exit_codes.FAILED,
        )
    return interpreter, line
