"""`flowherd start`: the agent, in this process, and the embedded server beside it if no API is set."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli import exit_codes
from flowherd.cli.agent.isolation_tokens import (
    check_embedded_server,
    check_other_server,
    isolates,
    with_tokens_of_start,
)
from flowherd.cli.failures import CommandError
from flowherd.cli.isolation_options import StartIsolationOption, StartNetworkOption
from flowherd.cli.options import (
    FLAGS,
    AgentAddressOption,
    AgentApiOption,
    EnvFileOption,
    HostnameLabelOption,
    ImportPathOption,
    LabelOption,
    LimitOption,
    LogFileOption,
    LogJournaldOption,
    LogJsonOption,
    NameOption,
    NoCloudLogsOption,
    OnStopOption,
    PoolOption,
    PreloadOption,
    RunEnvOption,
    RuntimeOption,
    SecretOption,
    ShowFlowLogsOption,
    StateDirOption,
    TokenOption,
    VerboseOption,
    WorkQueueOption,
    require_work_pool,
    setting_overrides,
)
from flowherd.cli.printing import print_note, print_warning

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings
    from flowherd.config.reload_report import SettingsSource

#: Longest time that a thread which comes back from a system call waits for one that computes, seconds; a start makes
#: some fifty of these calls, and Python's own 0.005 is as long as the start of a run.
_SWITCH_INTERVAL_S = 0.0005
_EXAMPLES = """
Examples:

  flowherd start

  flowherd start --server-port 4201

  flowherd start -a http://10.0.0.5:4200 -n builder -l gpu -e CUDA_VISIBLE_DEVICES=0,1

  FLOWHERD__CLOUD__AGENT__AUTH_TOKEN=... flowherd start -a https://api.example.com --limit 4

  flowherd start --isolation private

  flowherd start --pool machines --api http://10.0.0.5:4200/api --runtime 'new=/opt/prefect-3'
"""


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("start", epilog=_EXAMPLES)(start)


def start(
    token: TokenOption = None,
    api: AgentApiOption = None,
    pool: PoolOption = None,
    work_queue: WorkQueueOption = None,
    name: NameOption = None,
    verbose: VerboseOption = False,
    label: LabelOption = None,
    env: RunEnvOption = None,
    env_file: EnvFileOption = None,
    secret: SecretOption = None,
    import_path: ImportPathOption = None,
    show_flow_logs: ShowFlowLogsOption = None,
    max_polls: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after this number of polls (default: never)")
    ] = None,
    agent_address: AgentAddressOption = None,
    no_cloud_logs: NoCloudLogsOption = None,
    hostname_label: HostnameLabelOption = None,
    state_dir: StateDirOption = None,
    limit: LimitOption = None,
    on_stop: OnStopOption = None,
    preload: PreloadOption = None,
    runtime: RuntimeOption = None,
    isolation: StartIsolationOption = None,
    network: StartNetworkOption = None,
    log_json: LogJsonOption = None,
    log_journald: LogJournaldOption = None,
    log_file: LogFileOption = None,
    server_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="Port of the embedded server; 0 picks a free one (default: 4200)"
        ),
    ] = None,
) -> None:
    """Start the agent: claim flow runs that match its labels and run each in a process tree of its own.

    Without an API address it uses the embedded server that is running on this host, or starts one beside itself.

    With --pool it is a worker of a Prefect 3 server and starts none. The pool's queues select the runs, not labels.
    """
    from flowherd.config import load_settings
    from flowherd.signals import hold_request_signals

    hold_request_signals()
    overrides = setting_overrides(
        token=token,
        api=api,
        pool=pool,
        work_queue=work_queue,
        name=name,
        verbose=verbose,
        label=label,
        env=env,
        env_file=env_file,
        secret=secret,
        import_path=import_path,
        show_flow_logs=show_flow_logs,
        agent_address=agent_address,
        no_cloud_logs=no_cloud_logs,
        hostname_label=hostname_label,
        state_dir=state_dir,
        limit=limit,
        on_stop=on_stop,
        preload=preload,
        runtime=runtime,
        isolation=isolation,
        network=network,
        log_json=log_json,
        log_journald=log_journald,
        log_file=log_file,
    )
    overrides["server.bind_port"] = server_port
    read = functools.partial(load_settings, overrides, argument_names={**FLAGS, "server.bind_port": "--server-port"})
    loaded = read()
    if work_queue:
        require_work_pool(loaded, "--work-queue")
    for warning in loaded.warnings:
        print_warning(warning)
    if isolates(loaded.settings):
        loaded = with_tokens_of_start(loaded, read)
    with ExitStack() as stack:
        found, has_own_server = _with_api(loaded, overrides, stack)
        restart = _run_agent(found, _source(read, loaded, has_own_server=has_own_server), max_polls)
    if restart:
        _start_again()


def _source(read: Callable[[], LoadedSettings], loaded: LoadedSettings, *, has_own_server: bool) -> SettingsSource:
    """Return where the agent reads its settings again; an embedded server of its own reloads with it."""
    from flowherd.config.reload_report import SettingsSource

    if not has_own_server:
        return SettingsSource(read=read, at_start=loaded)
    from flowherd.backends.discovery import reload_running_server

    pass_on = functools.partial(reload_running_server, loaded.paths.server_file)
    return SettingsSource(read=read, at_start=loaded, usual_stop="cancel", pass_on=pass_on)


def _with_api(loaded: LoadedSettings, overrides: dict[str, Any], stack: ExitStack) -> tuple[LoadedSettings, bool]:
    """Return the settings with an API address, and whether it is that of an embedded server of the agent's own.

    It is that of the settings, else that of an embedded server.

    If no embedded server is running, starts one, which `stack` ends.
    """
    from flowherd.backends.discovery import is_left_to_embedded_server, running_server
    from flowherd.cli.server.embedded_server import embedded_server
    from flowherd.config import load_settings
    from flowherd.config.route import EMBEDDED_SERVER

    is_embedded = loaded.settings.backend_name == "graphql" and is_left_to_embedded_server(loaded)
    if not is_embedded and overrides["server.bind_port"] is not None:
        raise CommandError("--server-port is for the embedded server; this agent uses another one", exit_codes.USAGE)
    if not is_embedded and isolates(loaded.settings):
        check_other_server(loaded)
    if loaded.settings.backend_name != "graphql":
        return loaded, False
    if not is_embedded:
        return _with_own_servers_token(loaded, overrides), False
    found, is_own = running_server(loaded.paths.server_file), False
    if found is None:
        found, is_own = stack.enter_context(embedded_server(loaded))
    if not is_own:
        if isolates(loaded.settings):
            check_embedded_server(loaded, found.address)
        other = "" if overrides["server.bind_port"] is None else ", so --server-port has no effect"
        print_note(f"using the embedded server that runs at {found.address}{other}")
        on_stop = None
    else:
        print_note(f"no API is set: brought up the embedded server at {found.address}")
        on_stop = loaded.settings.agent.on_stop or "cancel"
    token = loaded.settings.cloud.agent.auth_token or loaded.settings.server.token
    found_settings = {"cloud.api": found.address, "cloud.agent.auth_token": token or None}
    if on_stop is not None:
        found_settings["agent.on_stop"] = on_stop
    names = {**FLAGS, "cloud.api": EMBEDDED_SERVER, "server.bind_port": "--server-port"}
    return load_settings({**overrides, **found_settings}, argument_names=names), is_own


def _with_own_servers_token(loaded: LoadedSettings, overrides: dict[str, Any]) -> LoadedSettings:
    """Return the settings, with the embedded server's token if their address is that of this user's own server."""
    from flowherd.backends.discovery import find_api
    from flowherd.config import load_settings

    if loaded.settings.cloud.agent.auth_token or not loaded.settings.server.token:
        return loaded
    found = find_api(loaded)
    if found is None or not found.embedded_pid:
        return loaded
    token = {"cloud.agent.auth_token": loaded.settings.server.token}
    return load_settings({**overrides, **token}, argument_names=FLAGS)


def _run_agent(loaded: LoadedSettings, source: SettingsSource, max_polls: int | None) -> bool:
    """Run the agent until it stops; return whether it is to be started again."""
    # Imported here: `flowherd --help` needs neither psutil nor loguru nor the agent.
    from loguru import logger

    from flowherd.agent import agent_log
    from flowherd.cli.agent.root_warning import root_warning
    from flowherd.errors import ConfigurationError
    from flowherd.host.local_agent import LocalAgent
    from flowherd.host.processes.orphans import reaping_orphans

    try:
        agent_log.configure(loaded.settings.cloud.agent.level, loaded.settings.logging)
    except (OSError, ValueError) as error:  # no such directory; no such rotation
        raise ConfigurationError(f"logging: the agent's own log cannot be written: {error}") from error
    warning = root_warning(loaded)
    if warning:
        logger.warning(warning)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    agent = LocalAgent(max_polls=max_polls, settings=loaded)
    agent.control.may_restart = True
    agent.control.settings_source = source
    with reaping_orphans():
        agent.start()
    return agent.is_to_start_again


def _start_again() -> None:
    """Replace this process by the same command line: its supervisor knows the pid, code and settings are read anew.

    Nothing is handed over except the files in the state directory, so this start is like one after a crash.
    """
    from flowherd.agent import agent_log
    from flowherd.signals import block_request_signals

    agent_log.close()
    block_request_signals()
    # By the interpreter's full path, by which it finds its virtual environment; orig_argv may hold a bare "python".
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
