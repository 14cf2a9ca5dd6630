"""`flowherd run`: creates a flow run and can wait for its end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli import completion, exit_codes, parse_options
from flowherd.cli.failures import CommandError
from flowherd.cli.format_times import short_span, span
from flowherd.cli.open_client import open_public_client
from flowherd.cli.options import ApiOption, FlowArgument, JsonOption
from flowherd.cli.printing import print_json, print_line, print_note, print_warning

if TYPE_CHECKING:
    from flowherd.client.agents import AgentView
    from flowherd.client.run_end import EndWait
    from flowherd.client.runs import RunSummary
    from flowherd.client.user_client import UserClient
    from flowherd.config import LoadedSettings

_EXAMPLES = """
Examples:

  flowherd run hello -p name=Ada --wait

  flowherd run nightly --at 2030-01-31T03:00

  id=$(flowherd run hello --json | jq -r .id)

  flowherd run hello -p name=Ada --here
"""
#: Maximum number of agents that a warning names.
_MAX_AGENTS = 5
#: With --wait, how long a run may take before it is looked up whether an agent will take it, seconds.
_QUICK_S = 0.25


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("run", epilog=_EXAMPLES)(run)


def run(
    name: FlowArgument,
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="K=V", help="A parameter; V may be JSON; repeatable."),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Start at this time: ISO 8601, local time.")
    ] = None,
    late: Annotated[
        bool, typer.Option("--late", help="With --at: the time may be over; the run then starts at once, as late.")
    ] = False,
    after: Annotated[str | None, typer.Option("--in", metavar="TIME", help="Start after this time: 10m.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("-l", "--label", metavar="LABEL", help="Label instead of the flow's labels; repeatable."),
    ] = None,
    run_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the run (default: two random words).")
    ] = None,
    project: Annotated[
        str | None, typer.Option(metavar="NAME", help="Project of the flow.", autocompletion=completion.projects)
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Show the run's log until it ends; exit 0 on Success, 1 on Failed, 5 on Cancelled."
        ),
    ] = False,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="With --wait: stop waiting and exit 6; the run goes on.")
    ] = None,
    here: Annotated[
        bool,
        typer.Option(
            "--here",
            help="Run it once in this terminal, without an agent, for breakpoint(); NAME may be a --python REF too.",
        ),
    ] = False,
    api: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a run of a flow, now or later, and print its id."""
    if here:
        others = {"--at": at, "--in": after, "--label": label, "--wait": wait, "--timeout": timeout, "--json": as_json}
        raise typer.Exit(_here(name, project, api, parse_options.parameters(parameter), run_name, others))
    if timeout is not None and not wait:
        raise CommandError("--timeout needs --wait", exit_codes.USAGE)
    wait_s = parse_options.duration_s(timeout, "--timeout") if timeout is not None else None
    given, start = parse_options.parameters(parameter), _start_time(at, after, late)
    public = open_public_client(api)
    client, loaded = public.connection, public.loaded
    run_id = public.run(name, given, at=start, late=True, labels=label, name=run_name, project=project)
    end, began_s = client.end_of(run_id) if wait else None, time.monotonic()
    if not as_json:
        print_line(run_id)
    # A run that ends at once was taken, and its result is not held up by these questions.
    quick_s = _QUICK_S if wait_s is None else min(_QUICK_S, wait_s)
    warning = None if end is not None and end.wait(quick_s) is not None else _why_not_taken(client, run_id)
    if warning and not as_json:
        print_warning(warning)
    result: dict[str, Any] = {"id": run_id, **({"warning": warning} if warning else {})}
    code = exit_codes.OK
    if end is not None:
        ended = _wait(client, loaded, end, run_id, began_s, wait_s, quiet=as_json)
        code = _code_of(ended)
        state = ended or client.runs.get(run_id)
        result |= {"state": state.state if state else None, "message": state.message if state else None}
    if as_json:
        print_json(result)
    raise typer.Exit(code)


def _here(
    name: str,
    project: str | None,
    api: str | None,
    parameters: dict[str, Any],
    run_name: str | None,
    others: Mapping[str, object],
) -> int:
    from flowherd.cli.here.definition import find_definition
    from flowherd.cli.here.run_here import run_here

    excluded = [option for option, value in others.items() if value]
    if excluded:
        raise CommandError(f"--here excludes {', '.join(excluded)}", exit_codes.USAGE)
    definition, loaded = find_definition(name, project, api)
    return run_here(definition, parameters, loaded, run_name)


def _start_time(at: str | None, after: str | None, late: bool) -> datetime | None:
    if at is not None and after is not None:
        raise CommandError("--at and --in exclude each other", exit_codes.USAGE)
    if late and at is None:
        raise CommandError("--late needs --at", exit_codes.USAGE)
    from flowherd.client.client import NOT_LATE_S

    now = datetime.now(timezone.utc)
    if after is not None:
        return now + timedelta(seconds=parse_options.duration_s(after, "--in"))
    if at is None:
        return None
    start = parse_options.moment(at, "--at")
    if start < now - timedelta(seconds=NOT_LATE_S) and not late:
        ago = short_span((now - start).total_seconds())
        raise CommandError(
            f"no run was created: --at {at!r} was {ago} ago; give a later time, or --late to start the run at once",
            exit_codes.USAGE,
        )
    return start


def _why_not_taken(client: UserClient, run_id: str) -> str | None:
    """Return why none of the living agents will take the run; None if one will."""
    from flowherd.story.records import missing_labels

    created = client.runs.get(run_id)
    now = datetime.now(timezone.utc)
    living = [agent for agent in client.agents.all() if agent.alive(now)]
    missing = missing_labels(created.labels, living) if created else None
    if created is None or missing is None:
        return None
    if not living:
        wanted = f" with its labels ({', '.join(created.labels)})" if created.labels else ""
        return f"no agent is running that could take this run; start one{wanted}: `flowherd start`"
    if not missing:
        return "the run has no labels, so only an agent without labels takes it (--no-hostname-label); none is running"
    return f"no living agent has the label {', '.join(missing)}; living: {_listed(living)}"


def _listed(agents: Sequence[AgentView]) -> str:
    return "; ".join(f"{agent.name} [{', '.join(agent.labels) or 'no labels'}]" for agent in agents[:_MAX_AGENTS])


def _wait(
    client: UserClient,
    loaded: LoadedSettings,
    end: EndWait,
    run_id: str,
    began_s: float,
    wait_s: float | None,
    *,
    quiet: bool,
) -> RunSummary | None:
    from flowherd.cli.runs.follow import follow_run
    from flowherd.cli.runs.log_view import TextView

    view = TextView()
    left_s = None if wait_s is None else max(0.0, began_s + wait_s - time.monotonic())
    try:
        ended = follow_run(client, loaded, run_id, None if quiet else view, end=end, wait_s=left_s)
    except KeyboardInterrupt:
        print_note("")
        print_note("no longer waiting; the run goes on. To follow or to end it:")
        print_note(f"  flowherd logs -f {run_id}")
        print_note(f"  flowherd cancel {run_id}")
        raise
    finally:
        view.end()
    if ended is None:
        print_note(f"the run has not ended after {span(wait_s or 0.0)}: `flowherd logs -f {run_id}`")
    elif not quiet:
        print_note(f"{ended.name}: {ended.state}" + (f": {ended.message}" if ended.message else ""))
    return ended


def _code_of(ended: RunSummary | None) -> int:
    if ended is None:
        return exit_codes.STILL_GOING
    if ended.successful:
        return exit_codes.OK
    return exit_codes.CANCELLED if ended.state == "Cancelled" else exit_codes.FAILED
