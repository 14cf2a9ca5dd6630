"""Every option that overrides a setting, with that setting, and every other option that several commands share.

A command's signature names the types below. `settings_from` takes the options of a command by the names of their
parameters and returns the settings with these options as the strongest source; messages about bad values name the flag.
An option that only one command has and that overrides nothing is declared in that command.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli import completion, exit_codes, parse_options
from flowherd.cli.failures import CommandError

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings


class OnStopChoice(str, Enum):
    """What happens to the runs when the agent stops."""

    DETACH = "detach"
    DRAIN = "drain"
    CANCEL = "cancel"


@dataclass(frozen=True, kw_only=True)
class _Override:
    setting: str
    flag: str
    #: Makes the setting's value from the option's.
    read: Callable[[Any], Any]


#: The setting behind each option that overrides one, by the name of the option's parameter.
_OVERRIDES: dict[str, _Override] = {}
#: The flag of each setting that an option overrides.
FLAGS: dict[str, str] = {}


def overrides(setting: str, *flags: str, read: Callable[[Any], Any] = lambda value: value, **typer_options: Any) -> Any:
    """Declare an option that overrides a setting. Its parameter is named after the last flag, which messages show."""
    flag = flags[-1].partition("/")[0]
    _OVERRIDES[flag.removeprefix("--").replace("-", "_")] = _Override(setting=setting, flag=flag, read=read)
    FLAGS[setting] = flag
    return typer.Option(*flags, **typer_options)


def setting_overrides(**given: Any) -> dict[str, Any]:
    """Return the values of settings by dotted name, from options by parameter name; None means not given.

    Raises CommandError for a value that cannot be read, KeyError for an option that overrides no setting.
    """
    return {
        _OVERRIDES[name].setting: None if value is None or value == [] else _OVERRIDES[name].read(value)
        for name, value in given.items()
    }


def settings_from(**given: Any) -> LoadedSettings:
    """Load the settings; `given` are the command's options as for `setting_overrides`."""
    from flowherd.config import load_settings

    return load_settings(setting_overrides(**given), argument_names=FLAGS)


def require_work_pool(loaded: LoadedSettings, flag: str) -> None:
    """Raise CommandError if the settings name no work pool; `flag` is the option that needs one."""
    if not loaded.settings.uses_work_pool:
        raise CommandError(f"{flag} is an option for a work pool; name one with --pool", exit_codes.USAGE)


def _debug_level(verbose: bool) -> str | None:
    return "DEBUG" if verbose else None


def _absolute_paths(items: list[str]) -> list[str]:
    return [str(Path(path).expanduser().absolute()) for path in items]


# Which server

ApiOption = Annotated[
    str | None,
    overrides(
        "cloud.api",
        "--api",
        metavar="URL",
        help="API address (default: from the settings, else the running embedded server)",
    ),
]
AgentApiOption = Annotated[
    str | None,
    overrides("cloud.api", "-a", "--api", metavar="URL", help="API address (default: the embedded server)"),
]
TokenOption = Annotated[
    str | None,
    overrides(
        "cloud.agent.auth_token",
        "-t",
        "--token",
        help="API token, or API key of a --pool. Other users can read command lines: prefer the variable, see below.",
    ),
]
PoolOption = Annotated[
    str | None,
    overrides(
        "prefect3.pool",
        "--pool",
        metavar="NAME",
        help="Serve this process work pool of the Prefect 3 server that --api, PREFECT_API_URL or a profile names.",
        autocompletion=completion.pools,
    ),
]
WorkQueueOption = Annotated[
    list[str] | None,
    overrides(
        "prefect3.work_queues",
        "--work-queue",
        metavar="NAME",
        help="Take runs from this queue of the pool only; repeatable.",
        autocompletion=completion.queues,
    ),
]

# Which agent

NameOption = Annotated[
    str | None,
    overrides(
        "cloud.agent.name",
        "-n",
        "--name",
        help="The agent's name (default: from the settings, else agent)",
        autocompletion=completion.local_agents,
    ),
]
StateDirOption = Annotated[
    str | None,
    overrides(
        "agent.state_dir",
        "--state-dir",
        metavar="DIR",
        help="The agent's state directory, which holds its runs (default: agents/NAME in the home)",
    ),
]
RunningAgentOption = Annotated[
    str | None,
    typer.Option("--agent-address", metavar="URL", help="The agent that was started with this --agent-address."),
]
ProgramOption = Annotated[str, typer.Option("--program", metavar="NAME", help="The agent's program in supervisord.")]
SupervisorUrlOption = Annotated[
    str | None,
    typer.Option("--supervisor-url", metavar="URL", help="Address of supervisord: unix:///path or http://HOST:PORT."),
]
SupervisorConfOption = Annotated[
    str | None,
    typer.Option("--supervisor-conf", metavar="FILE", help="supervisord's configuration file, which has its address."),
]

# How the agent works

VerboseOption = Annotated[
    bool, overrides("cloud.agent.level", "-v", "--verbose", read=_debug_level, help="Log more: level DEBUG.")
]
LabelOption = Annotated[
    list[str] | None,
    overrides("cloud.agent.labels", "-l", "--label", metavar="LABEL", help="Take runs with this label; repeatable."),
]
RunEnvOption = Annotated[
    list[str] | None,
    overrides(
        "cloud.agent.env_vars",
        "-e",
        "--env",
        read=lambda items: parse_options.pairs(items, "-e"),
        metavar="K=V",
        help="Environment variable for every run; repeatable.",
    ),
]
SecretOption = Annotated[
    list[str] | None,
    overrides(
        "runs.secrets",
        "--secret",
        read=parse_options.secret_sources,
        metavar="NAME=SOURCE",
        help="Secret variable for every run, read on this host when it starts: NAME=file:PATH or NAME=env:VAR.",
    ),
]
EnvFileOption = Annotated[
    list[str] | None,
    overrides(
        "runs.env_files",
        "--env-file",
        read=lambda items: [parse_options.host_path(item, "--env-file") for item in items],
        metavar="FILE",
        help="File of NAME=VALUE lines for every run, read when the run starts; repeatable.",
    ),
]
ImportPathOption = Annotated[
    list[str] | None,
    overrides(
        "agent.import_paths",
        "-p",
        "--import-path",
        read=_absolute_paths,
        metavar="DIR",
        help="Import path for every run; repeatable.",
    ),
]
ShowFlowLogsOption = Annotated[
    bool | None,
    overrides("agent.show_flow_logs", "-f", "--show-flow-logs", help="Show the output of the runs here too."),
]
AgentAddressOption = Annotated[
    str | None,
    overrides(
        "cloud.agent.agent_address",
        "--agent-address",
        metavar="URL",
        help="Serve health, runs and metrics at this address: http://127.0.0.1:8080.",
    ),
]
NoCloudLogsOption = Annotated[
    bool | None,
    overrides(
        "cloud.agent.no_cloud_logs",
        "--no-cloud-logs",
        help="Do not send the runs' logs to the backend; `flowherd logs` reads them on this host.",
    ),
]
HostnameLabelOption = Annotated[
    bool | None,
    overrides(
        "agent.hostname_label",
        "--hostname-label/--no-hostname-label",
        help="Label the agent with the name of this host (default: on)",
    ),
]
LimitOption = Annotated[
    int | None,
    overrides("agent.limit", "--limit", metavar="N", help="Maximum number of runs at the same time (default: none)"),
]
OnStopOption = Annotated[
    OnStopChoice | None,
    overrides(
        "agent.on_stop",
        "--on-stop",
        read=lambda choice: choice.value,
        help="What happens to the runs when the agent stops: leave them to the next agent, wait for them, or end them "
        "(default: detach, or cancel beside an embedded server)",
    ),
]
PreloadOption = Annotated[
    list[str] | None,
    overrides(
        "agent.preload",
        "--preload",
        metavar="MODULE",
        help="Import this module once, for all runs; repeatable.",
    ),
]
RuntimeOption = Annotated[
    list[str] | None,
    overrides(
        "runtimes",
        "--runtime",
        metavar="NAME=PYTHON[;...]",
        help="Another Python, or virtual environment, for some Python and Prefect runs: "
        "'old=/opt/old;core=0.*'; also ;labels=A,B ;flows=X* ;preload=M. Repeatable; the first that matches is used.",
    ),
]
LogJsonOption = Annotated[
    bool | None, overrides("logging.json_lines", "--log-json", help="Write the agent's own log as JSON lines.")
]
LogJournaldOption = Annotated[
    bool | None, overrides("logging.journald", "--log-journald", help="Log to systemd's journal, with fields.")
]
LogFileOption = Annotated[
    str | None,
    overrides("logging.file", "--log-file", metavar="FILE", help="Write the agent's log to this file too, rotated."),
]
HomeOption = Annotated[
    str | None,
    overrides(
        "home",
        "--home",
        metavar="DIR",
        help="flowherd's home for the service (default: FLOWHERD_HOME, or ~/.flowherd of its user)",
    ),
]

# The embedded server

HostOption = Annotated[
    str | None,
    overrides(
        "server.bind",
        "--host",
        metavar="ADDRESS",
        help="Address to listen on; any but a loopback address needs a token (default: 127.0.0.1)",
    ),
]
PortOption = Annotated[
    int | None,
    overrides(
        "server.bind_port", "--port", metavar="PORT", help="Port to listen on; 0 picks a free one (default: 4200)"
    ),
]
DataDirOption = Annotated[
    str | None,
    overrides(
        "server.data_dir",
        "--data-dir",
        metavar="DIR",
        help="Directory of the database (default: server in the home)",
    ),
]

# Which flow, which run

FlowArgument = Annotated[str, typer.Argument(metavar="NAME", help="The flow's name.", autocompletion=completion.flows)]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="The run's id, the beginning of it, or its name.", autocompletion=completion.runs
    ),
]
RunsDirOption = Annotated[
    str | None,
    typer.Option(
        "--state-dir", metavar="DIR", help="State directory of the agent that had the run, if not under the home."
    ),
]

# The form of the output

WideOption = Annotated[bool, typer.Option("--wide", help="Cut nothing to the width of the terminal.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
JsonArrayOption = Annotated[bool, typer.Option("--json", help="Print a JSON array of objects.")]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
