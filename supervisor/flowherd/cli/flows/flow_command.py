"""`flowherd flow NAME`: one flow, with all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli.open_client import open_client
from flowherd.cli.options import ApiOption, FlowArgument, JsonOption, WideOption
from flowherd.cli.printing import is_terminal, print_json, print_line

if TYPE_CHECKING:
    from flowherd.client.flow_list import FlowView
    from flowherd.client.runs import RunView
    from flowherd.client.user_client import UserClient

#: Number of the schedule's next times that are shown.
_TIMES = 5
#: Columns of the word in front of each fact.
_WORD_COLUMNS = 13


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("flow", epilog="Example:  flowherd flow nightly --runs 3")(flow)


def flow(
    name: FlowArgument,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="Project of the flow.")] = None,
    runs: Annotated[int, typer.Option(min=0, max=1000, metavar="N", help="Show the last N runs.")] = 10,
    wide: WideOption = False,
    api: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a flow: definition, versions, schedule with its next times, parameters and defaults, last runs."""
    from flowherd.cli.flows.flow_facts import facts
    from flowherd.client.lookup import find_flow

    client, _ = open_client(api)
    (found,) = client.flow_list.all(flow_id=find_flow(client, name, project).id)
    now = datetime.now(timezone.utc)
    versions, last = client.flow_list.versions(found), _last_runs(client, found, runs)
    times = client.schedules.next_times(found.id, _TIMES, now) if found.schedule is not None else []
    if as_json:
        print_json(_fields(found, versions, times, last, now))
        return
    print_line(f"{found.name}, version {found.version} of project {found.project}")
    for word, text in facts(found, versions, times, now):
        _print_fact(word, text, wide)
    if last:
        print_line("")
        _print_runs(client, last, now, wide)


def _last_runs(client: UserClient, found: FlowView, limit: int) -> Sequence[RunView]:
    from flowherd.client.run_filter import all_of, in_flow_group
    from flowherd.states import WAITING, RunState

    # One that waits for its next attempt has begun, and one that is held back has met its time.
    not_begun = WAITING - {RunState.RETRYING, RunState.QUEUED}
    begun = all_of(in_flow_group(found.name, found.project), {"state": {"_nin": sorted(not_begun)}})
    return client.run_list.where(begun or {}, limit) if limit else ()


def _print_fact(word: str, text: str, wide: bool) -> None:
    from textwrap import wrap

    from flowherd.cli.tables.show import terminal_width

    room = terminal_width() - _WORD_COLUMNS
    fits = wide or not is_terminal() or room < _WORD_COLUMNS
    lines = [text] if fits else wrap(text, room, break_on_hyphens=False) or [""]
    for n, line in enumerate(lines):
        print_line(f"  {'' if n else word:<{_WORD_COLUMNS - 2}}{line}")


def _print_runs(client: UserClient, last: Sequence[RunView], now: datetime, wide: bool) -> None:
    from flowherd.cli.runs.ps_columns import columns_titled
    from flowherd.cli.runs.ps_rows import rows_of
    from flowherd.cli.tables import show_table

    rows = rows_of(last, client.agents.all(), now)
    show_table(columns_titled(("ID", "STATE", "NAME", "AGENT", "TIME", "TOOK", "SAYS")), rows, wide=wide)


def _fields(
    found: FlowView,
    versions: Sequence[tuple[int, datetime | None]],
    times: Sequence[datetime],
    last: Sequence[RunView],
    now: datetime,
) -> Mapping[str, Any]:
    from flowherd.cli.flows.flow_facts import rules_of
    from flowherd.cli.flows.flow_rows import FlowRow, json_fields

    config = found.run_config
    return {
        **json_fields(FlowRow(found, now)),
        "storage": found.storage,
        # Without the values of variables, which may be secrets.
        "run_config": {**config, "env": sorted(config["env"]) if isinstance(config.get("env"), dict) else None},
        "rules": rules_of(found).as_json(),
        "parameters": list(found.parameters) if found.parameters is not None else None,
        "defaults": found.defaults,
        "required": sorted(found.required),
        "next_times": times,
        "clocks": (found.schedule or {}).get("clocks", []),
        "versions": [{"version": number, "registered": at} for number, at in versions],
        "last_runs": [
            {
                "id": run.id,
                "name": run.name,
                "state": run.state,
                "message": run.message,
                "start_time": run.start_time,
                "end_time": run.end_time,
            }
            for run in last
        ],
    }
