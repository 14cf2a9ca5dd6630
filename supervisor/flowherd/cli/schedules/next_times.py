"""When a schedule fires next, in its own time zone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo

from flowherd.cli.flows.schedule_options import NO_ZONE, chosen_schedule
from flowherd.cli.open_client import open_client
from flowherd.cli.printing import print_json, print_note, print_warning
from flowherd.cli.tables import Column, show_table
from flowherd.client.lookup import find_schedule
from flowherd.schedules.cron_fields import ScheduleError
from flowherd.schedules.in_words import schedule_in_words, zones_of
from flowherd.schedules.own_clock import zone_named

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class NextTimes:
    """Times of a schedule, and what a person should know about them."""

    times: Sequence[datetime]
    #: The zone in which they are shown; None for this host's.
    zone: str | None
    #: A sentence about the schedule.
    about: str
    #: Whether it is switched off, so that nothing happens at these times.
    paused: bool = False


@dataclass(frozen=True)
class _Row:
    at: datetime
    #: The time before it, or now.
    before: datetime

    @property
    def clock_change(self) -> str:
        """How the clock has changed since the time before."""
        change = (self.at.utcoffset() or timedelta()) - (
            self.before.astimezone(self.at.tzinfo).utcoffset() or timedelta()
        )
        minutes = abs(change) // _MINUTE
        length = f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"
        return f"clock put {'forward' if change > timedelta() else 'back'} {length}" if minutes else ""


def next_of_cron(cron: str, zone: str | None, count: int) -> NextTimes:
    """Return the next times of a cron expression. Raises CommandError if it has none."""
    now = datetime.now(timezone.utc)
    schedule = chosen_schedule(cron, None, zone, None, now)
    assert schedule is not None
    if schedule.zone_is_guess:
        print_warning(NO_ZONE)
    return NextTimes(times=schedule.next_times(now, count), zone=schedule.zone, about=schedule.in_words())


def next_of_flow(api: str | None, name: str, project: str | None, count: int) -> NextTimes:
    """Return the next times of a flow's schedule. Raises CommandError if the flow has none."""
    client, _ = open_client(api)
    schedule = find_schedule(client, name, project)
    times = client.schedules.next_times(schedule.flow_id, count, datetime.now(timezone.utc))
    zones = zones_of(schedule.schedule)
    words = ", ".join([schedule_in_words(schedule.schedule), *zones])
    return NextTimes(times=times, zone=zones[0] if len(zones) == 1 else None, about=words, paused=not schedule.active)


def show_times(found: NextTimes, *, wide: bool, as_json: bool) -> None:
    """Print the times."""
    here = _in_zone(None)
    try:
        own = here if found.zone is None else _in_zone(zone_named(found.zone))
    except ScheduleError:  # a zone that this host does not know
        own = here
    times = [own(at) for at in found.times]
    if as_json:
        print_json([{"time": at, "utc": at.astimezone(timezone.utc)} for at in times])
        return
    rows = [_Row(at, before) for at, before in zip(times, [datetime.now(timezone.utc), *times], strict=False)]
    print_note(
        f"{found.about}; paused, so it does not fire: `flowherd schedule resume`" if found.paused else found.about
    )
    if not rows:
        print_note("it fires no more")
        return
    columns = [Column[_Row]("TIME", lambda row: _written(row.at), full=lambda row: row.at.isoformat())]
    if any(own(at).utcoffset() != here(at).utcoffset() for at in found.times):
        columns.append(
            Column[_Row]("HERE", lambda row: _written(here(row.at)), full=lambda row: here(row.at).isoformat(), rank=3)
        )
    columns.append(Column[_Row]("NOTE", lambda row: row.clock_change, rank=2))
    show_table(columns, rows, wide=wide)


def _in_zone(zone: tzinfo | None) -> Callable[[datetime], datetime]:
    return lambda at: at.astimezone(zone)


def _written(at: datetime) -> str:
    return at.strftime("%a %Y-%m-%d %H:%M %Z" if not at.second else "%a %Y-%m-%d %H:%M:%S %Z")
