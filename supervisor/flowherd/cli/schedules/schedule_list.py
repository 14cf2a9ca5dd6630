"""The list of schedules: of `flowherd schedule ls` and `flowherd schedules`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from flowherd.cli.format_times import local_time, short_time
from flowherd.cli.open_client import open_client
from flowherd.cli.printing import is_terminal, print_json, print_note
from flowherd.cli.tables import Column, Cut, show_table, state_style
from flowherd.client.schedules import ScheduleView
from flowherd.schedules.in_words import clocks_of, cron_lines, schedule_in_words, zones_of
from flowherd.story.asked_by import by_phrase


@dataclass(frozen=True)
class _Row:
    schedule: ScheduleView
    now: datetime

    def next(self) -> str:
        """Return when it fires next, or why it does not."""
        if not self.schedule.active:
            return "paused"
        return short_time(self.schedule.next, self.now) or "none"

    def paused(self) -> str:
        """Return since when it is paused, and by whom; empty if it is not, or if that is not known."""
        found = self.schedule
        if found.active or found.since is None:
            return ""
        return f"since {short_time(found.since, self.now)} {by_phrase(found.by)}".rstrip()

    def whole_next(self) -> str:
        """Return the same with the whole time."""
        return local_time(self.schedule.next, self.now) if self.schedule.active else "paused"


_COLUMNS: Sequence[Column[_Row]] = (
    Column("NEXT", _Row.next, full=_Row.whole_next, style=state_style),
    Column("FLOW", lambda row: row.schedule.flow, cut=Cut.MIDDLE, least=10, best=24),
    Column("WHEN", lambda row: schedule_in_words(row.schedule.schedule), cut=Cut.END, least=26, best=44, rank=2),
    Column("PAUSED", _Row.paused, cut=Cut.END, least=11, best=44, rank=3),
    Column("LAST", lambda row: row.schedule.last_state or "", style=state_style, rank=3),
    Column("ZONE", lambda row: " ".join(zones_of(row.schedule.schedule)), rank=4),
    Column("CRON", lambda row: cron_lines(row.schedule.schedule), cut=Cut.MIDDLE, least=14, best=20, rank=5),
    Column("PROJECT", lambda row: row.schedule.project, cut=Cut.MIDDLE, least=7, best=16, rank=6),
)


def list_schedules(api: str | None, *, project: str | None = None, wide: bool = False, as_json: bool = False) -> None:
    """Print all schedules, the next to fire first, paused ones last."""
    client, _ = open_client(api)
    now = datetime.now(timezone.utc)
    found = sorted(client.schedules.find(now, project=project), key=_order)
    if as_json:
        print_json([_fields(schedule) for schedule in found])
    elif found or not is_terminal():
        show_table(_COLUMNS, [_Row(schedule, now) for schedule in found], wide=wide)
    else:
        print_note("no flow has a schedule; `flowherd register --cron '30 2 * * *' ...` gives it one")


def _order(schedule: ScheduleView) -> tuple[bool, bool, float, str, str]:
    at = schedule.next
    return not schedule.active, at is None, 0.0 if at is None else at.timestamp(), schedule.flow, schedule.project


def _fields(schedule: ScheduleView) -> Mapping[str, Any]:
    return {
        "flow": schedule.flow,
        "project": schedule.project,
        "flow_id": schedule.flow_id,
        "version": schedule.version,
        "paused": not schedule.active,
        "paused_since": None if schedule.active else schedule.since,
        "paused_by": None if schedule.active else schedule.by,
        "next": schedule.next,
        "when": schedule_in_words(schedule.schedule),
        "cron": cron_lines(schedule.schedule) or None,
        "timezones": zones_of(schedule.schedule),
        "last_state": schedule.last_state,
        "last_start": schedule.last_start,
        "clocks": clocks_of(schedule.schedule),
    }
