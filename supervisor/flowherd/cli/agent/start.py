"""`flowherd start`: the agent, and beside it the embedded server where no API is set."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli import completion, parse_options
from flowherd.cli.output import note, warn

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings

_EXAMPLES = """
Examples:

  flowherd start

  flowherd start -a http://10.0.0.5:4200 -n builder -l gpu -e CUDA_VISIBLE_DEVICES=0,1

  FLOWHERD__CLOUD__AGENT__AUTH_TOKEN=... flowherd start -a https://api.example.com --limit 4

  flowherd start --pool machines --api http://10.0.0.5:4200/api --runtime 'new=/opt/prefect-3'
"""

#: The flag of each setting, for messages about bad values.
FLAGS = {
    "cloud.agent.auth_token": "--token",
    "prefect3.pool": "--pool",
    "prefect3.work_queues": "--work-queue",
    "cloud.api": "--api",
    "cloud.agent.name": "--name",
    "cloud.agent.level": "--verbose",
    "cloud.agent.labels": "--label",
    "cloud.agent.env_vars": "--env",
    "cloud.agent.agent_address": "--agent-address",
    "cloud.agent.no_cloud_logs": "--no-cloud-logs",
    "agent.import_paths": "--import-path",
    "agent.show_flow_logs": "--show-flow-logs",
    "agent.hostname_label": "--hostname-label",
    "agent.state_dir": "--state-dir",
    "agent.limit": "--limit",
    "agent.on_stop": "--on-stop",
    "agent.preload": "--preload",
    "runtimes": "--runtime",
    "logging.json_lines": "--log-json",
    "logging.file": "--log-file",
}


class OnStopChoice(str, Enum):
    """What the agent's stop does to its runs."""

    DETACH = "detach"
    DRAIN = "drain"
    CANCEL = "cancel"


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command("start", epilog=_EXAMPLES)(start)


def start(
    token: Annotated[
        str | None,
        typer.Option(
            "-t",
            "--token",
            help="API token, or key of a --pool. Others can read a command line: rather use the variable, as below.",
        ),
    ] = None,
    api: Annotated[
        str | None, typer.Option("-a", "--api", metavar="URL", help="API address (default: the embedded server)")
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Serve this process work pool of a Prefect 3 server, which --api, PREFECT_API_URL or a profile names.",
            autocompletion=completion.pools,
        ),
    ] = None,
    work_queue: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this queue of the pool; repeatable.", autocompletion=completion.queues),
    ] = None,
    name: Annotated[str | None, typer.Option("-n", "--name", help="The agent's name (default: agent)")] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Tell more: level DEBUG.")] = False,
    label: Annotated[
        list[str] | None, typer.Option("-l", "--label", metavar="LABEL", help="Take runs with this label; repeatable.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option("-e", "--env", metavar="K=V", help="Environment variable for every run.")
    ] = None,
    import_path: Annotated[
        list[str] | None, typer.Option("-p", "--import-path", metavar="DIR", help="Import path for every run.")
    ] = None,
    show_flow_logs: Annotated[
        bool | None, typer.Option("-f", "--show-flow-logs", help="Show the runs' output here too.")
    ] = None,
    max_polls: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after so many polls (default: never)")
    ] = None,
    agent_address: Annotated[
        str | None, typer.Option(metavar="URL", help="Serve health, runs and metrics here: http://127.0.0.1:8080.")
    ] = None,
    no_cloud_logs: Annotated[
        bool | None, typer.Option("--no-cloud-logs", help="Write no logs to the backend; `flowherd logs` has them.")
    ] = None,
    hostname_label: Annotated[
        bool | None,
        typer.Option(
            "--hostname-label/--no-hostname-label", help="Label the agent with this host's name (default: on)"
        ),
    ] = None,
    state_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where its runs lie (default: agents/NAME in the home)")
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Runs at the same time (default: no limit)")] = None,
    on_stop: Annotated[
        OnStopChoice | None,
        typer.Option(
            help="Its runs at its stop: leave them to the next agent, wait for them, or end them "
            "(default: detach, or cancel beside an embedded server)"
        ),
    ] = None,
    preload: Annotated[
        list[str] | None, typer.Option(metavar="MODULE", help="Import this once for all runs; repeatable.")
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PYTHON[;...]",
            help="Another Python, or virtual environment, for some Python and Prefect runs: "
            "'old=/opt/old;core=0.*'; also ;labels=A,B ;flows=X* ;preload=M. Repeatable; the first match serves.",
        ),
    ] = None,
    log_json: Annotated[bool | None, typer.Option("--log-json", help="Its own log as JSON lines.")] = None,
    log_file: Annotated[str | None, typer.Option(metavar="FILE", help="Its own log to this file too, rotated.")] = None,
) -> None:
    """Start the agent: take flow runs that match its labels and run each in a process tree of its own.

    Without an API address it uses the embedded server that runs on this host, or brings one up beside itself.

    With --pool it is a worker of a Prefect 3 server, and no server is brought up. The pool's queues choose the runs,
    and labels play no part.
    """
    from flowherd.config import load_settings

    overrides: dict[str, Any] = {
        "cloud.agent.auth_token": token,
        "cloud.api": api,
        "prefect3.pool": pool,
        "prefect3.work_queues": work_queue or None,
        "cloud.agent.name": name,
        "cloud.agent.level": "DEBUG" if verbose else None,
        "cloud.agent.labels": label or None,
        "cloud.agent.env_vars": parse_options.pairs(env, "-e") or None,
        "cloud.agent.agent_address": agent_address,
        "cloud.agent.no_cloud_logs": no_cloud_logs,
        "agent.import_paths": [str(Path(path).expanduser().absolute()) for path in import_path or ()] or None,
        "agent.show_flow_logs": show_flow_logs,
        "agent.hostname_label": hostname_label,
        "agent.state_dir": state_dir,
        "agent.limit": limit,
        "agent.on_stop": on_stop.value if on_stop else None,
        "agent.preload": preload or None,
        "runtimes": runtime or None,
        "logging.json_lines": log_json,
        "logging.file": log_file,
    }
    loaded = load_settings(overrides, argument_names=FLAGS)
    if work_queue and not loaded.settings.prefect3.pool:
        raise typer.BadParameter("--work-queue is a queue of a work pool; name that with --pool")
    for warning in loaded.warnings:
        warn(warning)
    with ExitStack() as stack:
        again = _run_agent(_with_api(loaded, overrides, stack), max_polls)
    if again:
        _start_again()


def _with_api(loaded: LoadedSettings, overrides: dict[str, Any], stack: ExitStack) -> LoadedSettings:
    """The settings with the address of an API: their own, or an embedded server's that `stack` ends if it is ours."""
    from flowherd.backends.discovery import running_server
    from flowherd.backends.registry import backend_name
    from flowherd.cli.agent.embedded_server import embedded_server
    from flowherd.config import load_settings

    if backend_name(loaded.settings) != "graphql" or loaded.settings.cloud.api:
        return loaded
    found = running_server(loaded.paths.server_file)
    if found is not None:
        note(f"using the embedded server that runs at {found.address}")
        ours = {}
    else:
        found = stack.enter_context(embedded_server(loaded))
        note(f"no API is set: brought up the embedded server at {found.address}")
        ours = {"agent.on_stop": loaded.settings.agent.on_stop or "cancel"}
    token = loaded.settings.cloud.agent.auth_token or loaded.settings.server.token
    addition = {"cloud.api": found.address, "cloud.agent.auth_token": token or None, **ours}
    names = {**FLAGS, "cloud.api": "the embedded server"}
    return load_settings({**overrides, **addition}, argument_names=names)


def _run_agent(loaded: LoadedSettings, max_polls: int | None) -> bool:
    """Run the agent to its end; whether it is to start again."""
    # Lazy: psutil, loguru and all of the agent are not for `flowherd --help`.
    from flowherd.agent import agent_log
    from flowherd.errors import ConfigurationError
    from flowherd.host.local_agent import LocalAgent

    try:
        agent_log.configure(loaded.settings.cloud.agent.level, loaded.settings.logging)
    except (OSError, ValueError) as error:  # no such directory; no such rotation
        raise ConfigurationError(f"logging: the agent's own log cannot be written: {error}") from error
    agent = LocalAgent(max_polls=max_polls, settings=loaded)
    agent.control.may_restart = True
    agent.start()
    return agent.is_to_start_again


def _start_again() -> None:
    """The same command line in the same process, whose pid its supervisor knows; with the code and settings of now.

    Nothing is handed over but the files of the state directory, so this is no other start than one after a crash.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it has gone; the agent works on
            stream.flush()
    # By the interpreter's whole path, by which it finds its virtual environment; orig_argv may hold a bare "python".
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
