"""The options that give a flow a schedule: --cron, --interval, --timezone, --until."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo

from flowherd.cli import exit_codes, parse_options
from flowherd.cli.failures import CommandError
from flowherd.client.flow_schedule import ChosenSchedule
from flowherd.schedules.cron import Cron, read_cron
from flowherd.schedules.cron_fields import ScheduleError
from flowherd.schedules.host_zone import host_zone_name
from flowherd.schedules.own_clock import zone_named
from flowherd.times import read_time_as_written

#: What to do about a host without the name of a time zone.
NO_ZONE = (
    "this host has no time zone with a name (TZ, /etc/localtime, /etc/timezone), so the schedule is in UTC; "
    "choose one with --timezone"
)
_DATE = re.compile(r"\d{4}-?\d{2}-?\d{2}", re.ASCII)
_MICROSECOND = timedelta(microseconds=1)


def chosen_schedule(
    cron: str | None,
    interval: str | None,
    zone_name: str | None,
    until: str | None,
    now: datetime,
    *,
    may_be_over: bool = False,
) -> ChosenSchedule | None:
    """Return the schedule that the options ask for; None if they ask for none.

    Raises CommandError for options that exclude or miss each other, for a schedule that never fires, and unless
    `may_be_over` for one whose end is past.
    """
    if cron is not None and interval is not None:
        raise _wrong("--cron and --interval exclude each other")
    if cron is None and interval is None:
        alone = next((option for option, given in (("--timezone", zone_name), ("--until", until)) if given), None)
        if alone:
            raise _wrong(f"{alone} is about a schedule; give one with --cron or --interval")
        return None
    zone_found = zone_name or host_zone_name()
    zone = _zone(zone_found or "UTC")
    schedule = ChosenSchedule(
        cron=None if cron is None else read_cron_option(cron),
        interval_s=0.0 if interval is None else _interval_s(interval),
        zone=zone_found or "UTC",
        zone_is_guess=zone_found is None,
        until=None if until is None else _end(until, zone),
        begin=now,
    )
    if not may_be_over and not schedule.next_times(now, 1):
        raise _wrong(f"--until {until!r} is over before the first run of the schedule")
    return schedule


def read_cron_option(text: str) -> Cron:
    """Read the value of --cron. Raises CommandError, which says what to write instead."""
    try:
        return read_cron(text)
    except ScheduleError as error:
        instead = " (--interval)" if "interval" in str(error) else ""
        raise _wrong(f"--cron {text!r}: {error}{instead}") from error


def _zone(name: str) -> tzinfo:
    try:
        return zone_named(name)
    except ScheduleError as error:
        raise _wrong(f"--timezone: {error}") from error


def _interval_s(text: str) -> float:
    seconds = parse_options.duration_s(text, "--interval")
    if seconds < 1:
        raise _wrong("--interval must be at least one second")
    return seconds


def _end(text: str, zone: tzinfo) -> datetime:
    """Return the last moment that --until allows: of a date alone the end of that day."""
    try:
        at = read_time_as_written(text)
        if _DATE.fullmatch(text.strip()):
            return (at + timedelta(days=1)).replace(tzinfo=zone).astimezone(timezone.utc) - _MICROSECOND
        return (at if at.tzinfo is not None else at.replace(tzinfo=zone)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise _wrong(f"--until {text!r} is not a time; write it as 2030-01-31 or 2030-01-31T08:00") from None


def _wrong(message: str) -> CommandError:
    return CommandError(message, exit_codes.USAGE)
