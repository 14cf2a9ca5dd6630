"""`flowherd run`, `ps`, `cancel`: what a person does with runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli import exit_codes, parse_options
from flowherd.cli.api_address import open_client
from flowherd.cli.failures import CommandError
from flowherd.cli.options import ApiOption, FlowArgument, RunArgument
from flowherd.cli.output import STATE_STYLES, is_terminal, note, print_json, print_table, say, warn

if TYPE_CHECKING:
    from flowherd.client.user import AgentView, RunView, UserClient
    from flowherd.config import LoadedSettings

_RUN_EXAMPLES = """
Examples:

  flowherd run hello -p name=Ada --wait

  flowherd run nightly --at 2030-01-31T03:00

  id=$(flowherd run hello --json | jq -r .id)
"""


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command("run", epilog=_RUN_EXAMPLES)(run)
    app.command("ps", epilog="Example:  flowherd ps --all --json | jq '.[].state'")(ps)
    app.command("cancel", epilog="Example:  flowherd cancel 3f2a")(cancel)


def run(
    name: FlowArgument,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", metavar="K=V", help="A parameter; V may be JSON.")
    ] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="Start then: ISO 8601, local time.")] = None,
    after: Annotated[str | None, typer.Option("--in", metavar="TIME", help="Start after this time: 10m.")] = None,
    label: Annotated[
        list[str] | None, typer.Option("-l", "--label", metavar="LABEL", help="Labels instead of the flow's.")
    ] = None,
    run_name: Annotated[str | None, typer.Option(metavar="NAME", help="The run's name (default: two words).")] = None,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="The flow's project.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Show the run's log; exit 0 on Success, 1 on Failed, 5 on Cancelled.")
    ] = False,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="With --wait: stop waiting, exit 6; the run goes on.")
    ] = None,
    api: ApiOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run as JSON.")] = False,
) -> None:
    """Start a run of a flow, now or later, and print its id."""
    from flowherd.cli.flows.flow_document import unsaid_defaults
    from flowherd.cli.runs.lookup import find_flow

    if timeout is not None and not wait:
        raise CommandError("--timeout is about --wait, which is not given", exit_codes.USAGE)
    wait_s = parse_options.duration_s(timeout, "--timeout") if timeout is not None else None
    given, start = parse_options.parameters(parameter), _start_time(at, after)
    client, loaded = open_client(api)
    flow = find_flow(client, name, project)
    parameters = {**unsaid_defaults(flow.defaults), **given}
    run_id = client.create_run(flow.id, parameters=parameters, at=start, labels=label, name=run_name)
    warning = _nobody_takes_it(client, run_id)
    if not as_json:
        say(run_id)
        if warning:
            warn(warning)
    result: dict[str, Any] = {"id": run_id, **({"warning": warning} if warning else {})}
    code = exit_codes.OK
    if wait:
        ended = _wait(client, loaded, run_id, wait_s, quiet=as_json)
        code = _code_of(ended)
        state = ended or client.run(run_id)
        result |= {"state": state.state if state else None, "message": state.message if state else None}
    if as_json:
        print_json(result)
    raise typer.Exit(code)


def ps(
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Finished runs too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="The newest so many.")] = 100,
    api: ApiOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False,
) -> None:
    """List the runs that are waiting or going; with --all the finished ones too."""
    from flowherd.states import FINISHED, RunState

    client, _ = open_client(api)
    states = None if show_all else {state.value for state in RunState if state not in FINISHED}
    found = client.runs(states=states, limit=limit)
    names = {agent.id: agent.name for agent in client.agents()}
    if as_json:
        print_json([_run_fields(run, names) for run in found])
    elif found or not is_terminal():
        _print_runs(found, names)
    else:
        note("no runs" if show_all else "no runs are waiting or going; `flowherd ps --all` shows the finished ones")


def cancel(
    run: RunArgument,
    api: ApiOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run's id and state as JSON.")] = False,
) -> None:
    """Ask for a run's end: its whole process tree is ended, politely first."""
    from flowherd.cli.runs.lookup import find_run

    client, _ = open_client(api)
    found = find_run(client, run)
    state = found.state if found.finished else client.cancel(found.id)
    if as_json:
        print_json({"id": found.id, "state": state, "was_finished": found.finished})
    elif found.finished:
        note(f"{found.name} ({found.id}) was finished already: {state}")
    else:
        say(f"{found.name} ({found.id}): {state}")
    raise typer.Exit(exit_codes.FAILED if found.finished else exit_codes.OK)


# -- starting


def _start_time(at: str | None, after: str | None) -> datetime | None:
    if at is not None and after is not None:
        raise CommandError("--at and --in exclude each other", exit_codes.USAGE)
    if at is not None:
        return parse_options.moment(at, "--at")
    if after is not None:
        return datetime.now(timezone.utc) + timedelta(seconds=parse_options.duration_s(after, "--in"))
    return None


def _nobody_takes_it(client: UserClient, run_id: str) -> str | None:
    """Why no living agent will take the run; None when one will."""
    from flowherd.client.user import missing_labels

    created = client.run(run_id)
    now = datetime.now(timezone.utc)
    living = [agent for agent in client.agents() if agent.alive(now)]
    missing = missing_labels(created.labels, living) if created else None
    if created is None or missing is None:
        return None
    if not living:
        wanted = f" for its labels ({', '.join(created.labels)})" if created.labels else ""
        return f"no agent is there to take this run; start one{wanted} with `flowherd start`"
    if not missing:
        return (
            "the run has no labels, so only an agent without labels takes it (--no-hostname-label), and none is there"
        )
    return f"no living agent has the label {', '.join(missing)}; living: {_agents_in_words(living)}"


def _agents_in_words(agents: Sequence[AgentView]) -> str:
    return "; ".join(f"{agent.name} [{', '.join(agent.labels) or 'no labels'}]" for agent in agents[:5])


def _wait(
    client: UserClient, loaded: LoadedSettings, run_id: str, wait_s: float | None, *, quiet: bool
) -> RunView | None:
    from flowherd.cli.runs.follow import follow_run
    from flowherd.cli.runs.log_view import emit_nothing, emit_text

    try:
        ended = follow_run(client, loaded, run_id, emit_nothing if quiet else emit_text, wait_s=wait_s)
    except KeyboardInterrupt:
        note(f"\nno longer waiting; the run goes on: `flowherd logs -f {run_id}`, `flowherd cancel {run_id}`")
        raise
    if ended is None:
        note(f"the run still goes on after {parse_options.span(wait_s or 0.0)}: `flowherd logs -f {run_id}`")
    elif not quiet:
        note(f"{ended.name}: {ended.state}" + (f": {ended.message}" if ended.message else ""))
    return ended


def _code_of(ended: RunView | None) -> int:
    if ended is None:
        return exit_codes.STILL_GOING
    if ended.successful:
        return exit_codes.OK
    return exit_codes.CANCELLED if ended.state == "Cancelled" else exit_codes.FAILED


# -- showing


def _run_fields(run: RunView, agents: dict[str, str]) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "flow": run.flow,
        "state": run.state,
        "message": run.message,
        "labels": list(run.labels),
        "agent": agents.get(run.agent_id or "", run.agent_id),
        "pid": run.pid,
        "reason": run.reason,
        "parameters": dict(run.parameters),
        "scheduled_start_time": run.scheduled_start_time,
        "start_time": run.start_time,
        "end_time": run.end_time,
    }


def _print_runs(runs: Sequence[RunView], agents: dict[str, str]) -> None:
    narrow = is_terminal()
    rows = [
        (
            run.id[:8] if narrow else run.id,
            run.name,
            run.flow,
            run.state,
            agents.get(run.agent_id or "", ""),
            str(run.pid or ""),
            parse_options.local_time(run.start_time or run.scheduled_start_time),
            parse_options.took(run.start_time, run.end_time),
            run.message or "",
        )
        for run in runs
    ]
    columns = ("ID", "NAME", "FLOW", "STATE", "AGENT", "PID", "START", "TOOK", "MESSAGE")
    styles = [STATE_STYLES.get(run.state, "") for run in runs]
    print_table(columns, rows, styles=styles, one_line_each=True)
