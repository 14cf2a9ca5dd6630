"""`flowherd ps`: what runs, is due, failed lately and comes next, or all runs that match."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli import exit_codes, parse_options
from flowherd.cli.failures import CommandError
from flowherd.cli.open_client import open_client
from flowherd.cli.options import ApiOption, JsonArrayOption, WideOption
from flowherd.cli.printing import is_terminal, print_json, print_line, print_note
from flowherd.cli.runs.run_filters import (
    AgentsOption,
    FlowsOption,
    LabelsOption,
    SearchOption,
    SinceOption,
    StatesOption,
    UntilOption,
    run_filter,
    states_named,
)
from flowherd.cli.tables import Column, chosen, show_table, table_lines

if TYPE_CHECKING:
    from flowherd.cli.runs.ps_columns import PsRow
    from flowherd.cli.runs.ps_rows import Listed
    from flowherd.client.user_client import UserClient

_EPILOG = (
    "Examples:  flowherd ps --flow 'price-*' --state Failed --since 24h   |   flowherd ps --watch   |   "
    "flowherd ps --all --json | jq '.[].state'   |   flowherd ps -q --state running"
)
#: Shortest time between two looks of --watch, seconds.
_MIN_INTERVAL_S = 0.2


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("ps", epilog=_EPILOG)(ps)


def ps(
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Show finished runs too.")] = False,
    state: StatesOption = None,
    flow: FlowsOption = None,
    agent: AgentsOption = None,
    label: LabelsOption = None,
    late: Annotated[bool, typer.Option("--late", help="Show only runs that are due and have not started.")] = False,
    stuck: Annotated[bool, typer.Option("--stuck", help="Show only runs that go on and seem to do nothing.")] = False,
    since: SinceOption = None,
    until: UntilOption = None,
    search: SearchOption = None,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="COLUMN", help="Sort by this column; -COLUMN: the greatest first.")
    ] = None,
    fields: Annotated[
        str | None,
        typer.Option("--fields", metavar="A,B,...", help="Show these columns; of --json these fields."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000, metavar="N", help="Show at most N (default: what fits the screen, in a list 100)."
        ),
    ] = None,
    ids_only: Annotated[bool, typer.Option("-q", "--quiet", help="Print full ids only.")] = False,
    wide: WideOption = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show the list anew every --interval seconds.")] = False,
    interval: Annotated[
        str, typer.Option("--interval", metavar="TIME", help="Time between two looks with --watch, such as 10s.")
    ] = "2s",
    api: ApiOption = None,
    as_json: JsonArrayOption = False,
) -> None:
    """List the runs: what runs, is due, failed lately and comes next; with --all the finished ones too.

    On a terminal what runs comes first, then what is due, what failed in the last 24 hours, and the next run of each
    flow. In a pipe, with --json and -q it lists the newest runs that wait or run. --state, --since and --until list
    all runs that match, finished ones too.
    """
    if watch and as_json:
        raise CommandError("--watch shows a list to people; for a script use --json without it", exit_codes.USAGE)
    if (late or stuck) and (show_all or state or sort):
        raise CommandError(
            "--late and --stuck are about what is due and what runs; leave out --all, --state and --sort",
            exit_codes.USAGE,
        )
    client, _ = open_client(api)
    filters = {"flow": flow, "agent": agent, "label": label, "since": since, "until": until, "search": search}
    asked = _Asked(
        states=states_named(state),
        has_range=show_all or bool(state or since or until),
        # What people see; a script gets the newest runs.
        in_order=is_terminal() and not (sort or ids_only or as_json),
        limit=limit,
        sort=sort,
        filters=filters,
        is_late=late,
        is_stuck=stuck,
    )
    has_filter = bool(state or late or stuck) or any(filters.values())
    shown = _Shown(fields=fields, wide=wide, ids_only=ids_only, as_json=as_json, has_filter=has_filter)
    if watch:
        from flowherd.cli.runs.ps_watch import watch_list

        pause_s = max(_MIN_INTERVAL_S, parse_options.duration_s(interval, "--interval"))
        watch_list(lambda height: _look(client, asked, height), shown.lines, pause_s)
        return
    shown.show(_look(client, asked, shutil.get_terminal_size().lines))


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Which runs are asked for."""

    states: list[str]
    #: Whether states or a time are named, so that it is not only about what runs, waits or failed lately.
    has_range: bool
    in_order: bool
    limit: int | None
    sort: str | None
    filters: dict[str, Any]
    is_late: bool
    is_stuck: bool


def _look(client: UserClient, asked: _Asked, height: int) -> Listed:
    from flowherd.cli.runs import ps_rows

    with_runs = asked.in_order or asked.is_late
    agents = client.agents.with_runs() if with_runs else client.agents.all()
    in_order = asked.in_order or asked.is_late or asked.is_stuck
    states = asked.states or ([] if asked.has_range or in_order else states_named(["running", "waiting"]))
    wanted = run_filter(agents, states=states, **asked.filters)
    if asked.is_late or asked.is_stuck:
        most = asked.limit or ps_rows.LIMIT
        return ps_rows.in_trouble(client, wanted, agents, late=asked.is_late, stuck=asked.is_stuck, limit=most)
    if not asked.in_order:
        return ps_rows.newest(client, wanted, agents, limit=asked.limit or ps_rows.LIMIT, sort=asked.sort)
    if asked.has_range:
        return ps_rows.in_groups(client, wanted, agents, limit=asked.limit or ps_rows.LIMIT)
    return ps_rows.overview(client, wanted, agents, limit=asked.limit, height=height)


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """How the runs are shown."""

    fields: str | None
    wide: bool
    ids_only: bool
    as_json: bool
    #: Whether not all runs are asked for.
    has_filter: bool

    def show(self, found: Listed) -> None:
        """Print the list."""
        if self.as_json:
            print_json([self._json(row) for row in found.rows])
        elif self.ids_only:
            for row in found.rows:
                print_line(row.run.id)
        elif found.rows or not is_terminal():
            show_table(self._columns(), found.rows, wide=self.wide, more=found.more)
            return
        else:
            none = "no runs match" if self.has_filter else "no runs are running or waiting, and none failed lately"
            print_note(none + (f"; {found.more}" if found.more else ""))
            return
        if found.more:
            print_note(f"… {found.more}")

    def lines(self, found: Listed, width: int | None, coloured: bool) -> list[str]:
        """Return the lines of the list for a terminal of this width."""
        return table_lines(self._columns(), found.rows, None if self.wide else width, coloured=coloured)

    def _columns(self) -> Sequence[Column[PsRow]]:
        from flowherd.cli.runs.ps_columns import ALL, IN_PIPE, ON_TERMINAL, columns_titled

        if self.fields:
            return chosen(ALL, self.fields)
        return columns_titled(ON_TERMINAL if is_terminal() else IN_PIPE)

    def _json(self, row: PsRow) -> Mapping[str, Any]:
        from flowherd.cli.runs.ps_columns import json_fields

        found = json_fields(row)
        if not self.fields:
            return found
        names = [name.strip() for name in self.fields.split(",")]
        unknown = next((name for name in names if name not in found), None)
        if unknown is not None:
            known = ", ".join(found)
            raise CommandError(f"--fields {unknown!r} is no field of --json; the fields are {known}", exit_codes.USAGE)
        return {name: found[name] for name in names}
