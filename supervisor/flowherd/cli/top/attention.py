"""What needs attention: failed flows, stuck and late runs, agents that are away, and the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from flowherd.cli.format_times import short_time
from flowherd.cli.top.picture import AgentRow, HostFigures, Picture, RunRow
from flowherd.cli.top.spans import Line, Span, at_left, beside, clean, coarse_span, line, size
from flowherd.cli.top.state_marks import mark_of
from flowherd.notify.thresholds import MUCH_UNSENT
from flowherd.story.order import Group


class Matter(NamedTuple):
    """One thing that needs attention."""

    sign: str
    word: str
    style: str
    what: str
    why: str
    since: str


def matters(picture: Picture) -> list[Matter]:
    """Return what needs attention, in the order in which it is to be looked at."""
    rows = picture.rows
    return [
        *(_failure(row, picture.at) for row in picture.in_trouble()),
        *(_of_run(row, picture.at, row.started) for row in rows if row.stuck),
        *_late(rows, picture.at),
        *(_away(agent, picture.at) for agent in picture.agents if agent.is_away),
        *_host(picture.host),
        *_of_agents(picture.agents),
    ]


def attention_lines(found: list[Matter], most: int, width: int) -> list[Line]:
    """Return at most `most` lines; the last one tells how many more there are."""
    shown = found if len(found) <= most else found[: max(0, most - 1)]
    names = max([15, *(len(one.what) for one in shown)]) if shown else 0
    names = min(names, max(8, width // 4))
    lines = [_line(one, names, width) for one in shown]
    if len(shown) < len(found) and most > 0:
        lines.append(line(Span(f" … {len(found) - len(shown)} more that need attention", "dim")))
    return lines


def _line(one: Matter, names: int, width: int) -> Line:
    head = Span(f" {one.sign} {at_left(one.word, 7)}", one.style)
    text = f" {at_left(clean(one.what), names, middle=True)}  {clean(one.why)}"
    return beside(line(head, text), line(one.since, " "), width)


def _failure(row: RunRow, now: datetime) -> Matter:
    sign, _, style = mark_of(row)
    in_a_row = f"{row.count} in a row: " if row.count > 1 else ""
    return Matter(sign, row.state, style, row.flow, in_a_row + row.says, short_time(row.ended, now))


def _of_run(row: RunRow, now: datetime, since: datetime | None) -> Matter:
    sign, word, style = mark_of(row)
    return Matter(sign, word, style, row.flow, row.stuck or row.says, short_time(since, now))


def _late(rows: Sequence[RunRow], now: datetime) -> Iterator[Matter]:
    """Yield the late runs, those of one flow that wait for the same together."""
    by_cause: dict[tuple[str, str], list[RunRow]] = {}
    for row in rows:
        if row.group is Group.DUE:
            by_cause.setdefault((row.flow, row.says), []).append(row)
    for late in by_cause.values():
        one = _of_run(late[0], now, late[0].due)
        yield one if len(late) == 1 else one._replace(why=f"{len(late)} runs: {one.why}")


def _away(agent: AgentRow, now: datetime) -> Matter:
    why = "never heard of" if agent.heard is None else f"not heard of for {coarse_span(_ago(agent.heard, now))}"
    runs = f"; it has {agent.runs} run{'' if agent.runs == 1 else 's'}" if agent.runs else ""
    return Matter("┄", "Away", "bad", f"agent {agent.name}", why + runs, short_time(agent.heard, now))


def _ago(at: datetime, now: datetime) -> float:
    return (now - at).total_seconds()


def _of_agents(agents: Sequence[AgentRow]) -> Iterator[Matter]:
    for agent in agents:
        name, unsent, most = f"agent {agent.name}", agent.unsent_bytes, agent.unsent_most_bytes
        if agent.is_away:
            continue
        for path, free in agent.low_disks:
            yield Matter("▲", "Disk", "warn", name, f"{size(free)} free at {path}", "")
        if unsent and most and unsent > MUCH_UNSENT * most:
            yield Matter("▲", "Output", "warn", name, f"{size(unsent)} not sent yet, of at most {size(most)}", "")


def _host(host: HostFigures | None) -> Iterator[Matter]:
    if host is None:
        return
    if host.disk_free is not None and host.is_disk_low:
        yield Matter("▲", "Disk", "warn", "host", f"{size(host.disk_free)} free at the data directory", "")
    if host.lacks_memory:
        waits = f"all processes waited for memory in {host.pressure.get('mem', 0.0):.0f} % of the last minute"
        yield Matter("▲", "Memory", "warn", "host", waits, "")
