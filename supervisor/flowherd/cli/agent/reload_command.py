"""`flowherd reload`: an agent, or the embedded server, reads its settings again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.options import JsonOption, NameOption, RunningAgentOption, StateDirOption, settings_from
from flowherd.cli.printing import print_json, print_line

if TYPE_CHECKING:
    from flowherd.cli.agent.agent_client import AgentClient
    from flowherd.config import LoadedSettings

_EXAMPLES = """
Examples:

  flowherd reload -n builder

  flowherd reload --json | jq -e '.reload.refused == []'

  flowherd reload --server
"""


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("reload", epilog=_EXAMPLES)(reload)


def reload(
    name: NameOption = None,
    state_dir: StateDirOption = None,
    agent_address: RunningAgentOption = None,
    server: Annotated[
        bool, typer.Option("--server", help="Have the embedded server of this home reload, instead of an agent.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the agent read its settings again while its runs go on, and print what changed and what was refused.

    Exits 1 if something was refused. The same as SIGHUP, see docs/reference/signals.md.
    """
    from flowherd.cli.agent.agent_client import AgentClient
    from flowherd.shown_text import one_line

    if server and (name or state_dir or agent_address):
        raise CommandError("--server is for the embedded server; leave out what names an agent", exit_codes.USAGE)
    loaded = settings_from(name=name, state_dir=state_dir)
    if server:
        _reload_server(loaded, as_json=as_json)
        return
    facts = _reloaded(AgentClient.of_settings(loaded, agent_address))
    report: dict[str, Any] = facts["reload"]
    if as_json:
        print_json(facts)
    else:
        for line in report["lines"]:
            print_line(one_line(str(line)))
    raise typer.Exit(exit_codes.FAILED if report["refused"] else exit_codes.OK)


def _reloaded(agent: AgentClient) -> dict[str, Any]:
    """Have the agent reload; return its description with the report."""
    pid = agent.describe()["pid"]
    older = f"the agent (pid {pid}) is of a release that cannot reload; `flowherd restart` reads its settings again too"
    try:
        facts = agent.post("reload")
    except CommandError as error:
        if error.exit_code != exit_codes.UNREACHABLE or agent.look() is None:
            raise
        raise CommandError(f"{older} ({error})") from error
    report = facts.get("reload")
    if not isinstance(report, dict) or not all(isinstance(report.get(key), list) for key in ("lines", "refused")):
        raise CommandError(older)
    return facts


def _reload_server(loaded: LoadedSettings, *, as_json: bool) -> None:
    from flowherd.backends.discovery import reload_running_server, running_server

    pid = reload_running_server(loaded.paths.server_file)
    if pid is None:
        if running_server(loaded.paths.server_file) is not None:
            raise CommandError("the embedded server is of a release that cannot reload; stop it and start it again")
        text = f"no embedded server runs in {loaded.paths.home}; start it: `flowherd server`"
        raise CommandError(text, exit_codes.UNREACHABLE)
    if as_json:
        print_json({"pid": pid})
    else:
        print_line(f"the embedded server (pid {pid}) reads its settings again; its log says what came of it")
