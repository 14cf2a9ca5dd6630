"""Which runs `flowherd ps` lists: the one order that fits the screen, or all that match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from flowherd.cli.runs.ps_columns import ALL, PsRow
from flowherd.cli.tables import sorted_by
from flowherd.client.run_list import Overview, facts_of
from flowherd.story.order import MOST_FAILED, MOST_NEXT, Group, Line, cut, group_of, in_order

if TYPE_CHECKING:
    from flowherd.client.agents import AgentView
    from flowherd.client.run_filter import RunFilter
    from flowherd.client.runs import RunView
    from flowherd.client.user_client import UserClient

#: Number of runs in a list where nobody asks for another one.
LIMIT = 100
#: Maximum number of runs that are read to be sorted.
MAX_SORTED = 10_000
#: Lines of failures and of next runs that are shown however low the screen is.
_LEAST_LINES = 3
#: Lines of the screen for the titles, what is not shown, and the next prompt.
_OTHER_LINES = 3


@dataclass(frozen=True)
class Listed:
    """The rows of a list, and what to say of those that are not shown."""

    rows: Sequence[PsRow]
    more: str = ""


def overview(
    client: UserClient, wanted: RunFilter, agents: Sequence[AgentView], *, limit: int | None, height: int
) -> Listed:
    """Return what runs, is due, failed lately and comes next.

    Without `limit` as much as fits on a screen of `height` lines; what runs is whole.
    """
    now = datetime.now(timezone.utc)
    found = client.run_list.overview(wanted, now, limit or LIMIT)
    lines = in_order([*found.runs, *found.between], facts_of, now)
    count = _count(lines)
    if limit is None:
        wanted_lines = {
            Group.DUE: min(count[Group.DUE], LIMIT),
            Group.FAILED: min(count[Group.FAILED], MOST_FAILED),
            Group.NEXT: min(count[Group.NEXT], MOST_NEXT),
        }
        fitting = _shared(height - _OTHER_LINES - count[Group.RUNNING], wanted_lines)
        most = {group: max(number, min(_LEAST_LINES, count[group])) for group, number in fitting.items()}
    else:
        others = {group: count[group] for group in (Group.DUE, Group.FAILED, Group.NEXT)}
        most = _shared(limit - count[Group.RUNNING], others)
    # Those that ended well only tell which failures are in a row.
    shown = cut(lines, {**most, Group.ENDED: 0}, found.totals)
    return Listed(_rows(shown.shown, agents, now, found), _more(shown.hidden, limit))


def in_groups(client: UserClient, wanted: RunFilter, agents: Sequence[AgentView], *, limit: int) -> Listed:
    """Return all that matches in the one order, each run in a line; about `limit` lines, and what runs is whole."""
    now = datetime.now(timezone.utc)
    found = client.run_list.groups(wanted, now, limit)
    lines = in_order(found.runs, facts_of, now, fold=False)
    count = _count(lines)
    others: dict[Group, int] = {group: count[group] for group in Group if group is not Group.RUNNING}
    shown = cut(lines, _shared(limit - count[Group.RUNNING], others), found.totals)
    return Listed(_rows(shown.shown, agents, now, found), _more(shown.hidden, limit))


def in_trouble(
    client: UserClient, wanted: RunFilter, agents: Sequence[AgentView], *, late: bool, stuck: bool, limit: int
) -> Listed:
    """Return the runs that are late or stuck, as asked, in the one order; at most `limit`."""
    now = datetime.now(timezone.utc)
    found = client.run_list.overview(wanted, now, limit)
    lines = [
        line
        for line in in_order(found.runs, facts_of, now, fold=False)
        if (late and line.group is Group.DUE) or (stuck and line.run.stuck)
    ]
    shown = lines[:limit]
    missing = len(lines) - len(shown) + (max(0, found.totals.get(Group.DUE, 0) - limit) if late else 0)
    return Listed(_rows(shown, agents, now, found), f"{missing:,} more: --limit N" if missing else "")


def newest(
    client: UserClient, wanted: RunFilter, agents: Sequence[AgentView], *, limit: int, sort: str | None
) -> Listed:
    """Return the newest runs that match, newest first, at most `limit`; with `sort` the first of all by a column."""
    now = datetime.now(timezone.utc)
    found = client.run_list.matching(wanted, MAX_SORTED if sort else limit)
    rows = sorted_by(ALL, sort, rows_of(found, agents, now))
    missing = 0
    if len(found) >= limit:
        missing = (len(found) if len(found) < MAX_SORTED and sort else client.run_list.count(wanted)) - limit
    return Listed(rows[:limit], f"{missing:,} more: --limit {min(MAX_SORTED, limit + missing)}" if missing > 0 else "")


def rows_of(runs: Sequence[RunView], agents: Sequence[AgentView], now: datetime) -> list[PsRow]:
    """Return a row for each of the runs, in their order."""
    return _rows([Line(run, group_of(facts_of(run), now)) for run in runs], agents, now, None)


def _count(lines: Sequence[Line[RunView]]) -> dict[Group, int]:
    return {group: sum(line.group is group for line in lines) for group in Group}


def _shared(room: int, wanted: Mapping[Group, int]) -> dict[Group, int]:
    """Return how many of the lines that each group wants fit into `room`: the same for each, and what one leaves."""
    given = dict.fromkeys(wanted, 0)
    while room > 0 and (hungry := [group for group in wanted if given[group] < wanted[group]]):
        for group in hungry:
            more = min(max(1, room // len(hungry)), wanted[group] - given[group], room)
            given[group] += more
            room -= more
    return given


def _rows(
    lines: Sequence[Line[RunView]], agents: Sequence[AgentView], now: datetime, found: Overview | None
) -> list[PsRow]:
    names = {agent.id: agent.name for agent in agents}
    return [
        PsRow(
            line=line,
            now=now,
            agent=names.get(line.run.agent_id or "", ""),
            waits=_waits(line.run, agents, now) if line.group is Group.DUE else "",
            coming=found.coming.get(line.run.id) if found is not None else None,
            last_line=found.last_lines.get(line.run.id, "") if found is not None else "",
        )
        for line in lines
    ]


def _waits(run: RunView, agents: Sequence[AgentView], now: datetime) -> str:
    from flowherd.story.waiting import run_waits

    return next(iter(run_waits(run, agents, {}, now)), "")


def _more(hidden: Mapping[Group, int], limit: int | None) -> str:
    """Return how many runs are not shown, and how to see them; empty if all are."""
    words = {
        Group.DUE: "due",
        Group.FAILED: "failed lately",
        Group.NEXT: "scheduled",
        Group.ENDED: "ended",
    }
    parts = [
        f"{hidden[group]:,} {'' if n else 'more '}{words[group]}"
        for n, group in enumerate(g for g in words if g in hidden)
    ]
    way = "--limit N" if limit is not None and Group.ENDED not in hidden else "--all, --limit N"
    return f"{', '.join(parts)}: {way}" if parts else ""
