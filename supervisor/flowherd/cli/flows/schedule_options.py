"""The options that give a flow a schedule: --cron, --interval, --timezone, --until."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import islice, takewhile
from typing import Any

from flowherd.cli import exit_codes, parse_options
from flowherd.cli.failures import CommandError
from flowherd.client.flows import falsy_defaults
from flowherd.schedules.cron import Cron, read_cron
from flowherd.schedules.cron_fields import ScheduleError
from flowherd.schedules.cron_times import cron_times
from flowherd.schedules.host_zone import host_zone_name
from flowherd.schedules.in_words import cron_in_words, interval_in_words
from flowherd.schedules.own_clock import own_clock, zone_named
from flowherd.times import read_time_as_written

#: What to do about a host without the name of a time zone.
NO_ZONE = (
    "this host has no time zone with a name (TZ, /etc/localtime, /etc/timezone), so the schedule is in UTC; "
    "choose one with --timezone"
)
_MINUTES, _SECONDS = "%a %Y-%m-%d %H:%M", "%a %Y-%m-%d %H:%M:%S"
_DATE = re.compile(r"\d{4}-?\d{2}-?\d{2}", re.ASCII)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class ChosenSchedule:
    """A schedule that is known to fire: a cron expression or an interval."""

    cron: Cron | None
    interval_s: float
    #: IANA name of the zone of the expression, and in which times are shown.
    zone: str
    #: Whether UTC was taken because the host has no zone with a name.
    zone_is_guess: bool
    until: datetime | None
    #: When an interval begins.
    begin: datetime

    def document(self, parameters: Mapping[str, Any], *, own_clocks: bool) -> dict[str, Any]:
        """Return the schedule of the flow's document; `own_clocks` is whether the server follows flowherd's clock."""
        rest: dict[str, Any] = {"parameter_defaults": falsy_defaults(parameters), "labels": None}
        filters: dict[str, list[Any]] = {"filters": [], "or_filters": [], "not_filters": [], "adjustments": []}
        return {"type": "Schedule", "clocks": [{**self._clock(own_clocks), **rest}], **filters}

    def _clock(self, own_clocks: bool) -> dict[str, Any]:
        if self.cron is not None and own_clocks:
            return own_clock(self.cron.text, self.zone, self.until)
        end = {"end_date": None if self.until is None else _prefect_time(self.until, "UTC")}
        if self.cron is None:
            start = _prefect_time(self.begin, "UTC")
            return {"type": "IntervalClock", "interval": round(self.interval_s * 1e6), "start_date": start, **end}
        start_date = None if self.zone == "UTC" else _prefect_time(self.begin, self.zone)
        return {"type": "CronClock", "cron": self.cron.text, "day_or": True, "start_date": start_date, **end}

    def next_times(self, after: datetime, count: int) -> list[datetime]:
        """Return the next times, in the schedule's zone."""
        zone = zone_named(self.zone)
        if self.cron is not None:
            times = cron_times(self.cron, zone, after)
        else:
            interval = timedelta(seconds=self.interval_s)
            first = max(0, (after - self.begin) // interval + 1)
            times = (self.begin + interval * number for number in range(first, first + count))
        until = self.until
        kept = times if until is None else takewhile(lambda at: at <= until, times)
        return [at.astimezone(zone) for at in islice(kept, count)]

    def written(self, at: datetime) -> str:
        """Return a time for people, in the schedule's zone."""
        return at.astimezone(zone_named(self.zone)).strftime(_MINUTES if self.cron is not None else _SECONDS)

    def in_words(self) -> str:
        """Return when it fires: "daily at 02:30 (30 2 * * *), Europe/Berlin"."""
        if self.cron is None:
            return interval_in_words(self.interval_s)
        words = cron_in_words(self.cron.text)
        written = "" if words == self.cron.text else f" ({self.cron.text})"
        return f"{words}{written}, {self.zone}"

    def fields(self) -> dict[str, Any]:
        """Return what --json shows of it."""
        return {
            "cron": None if self.cron is None else self.cron.text,
            "interval_s": None if self.cron is not None else self.interval_s,
            "timezone": None if self.cron is None else self.zone,
            "until": self.until,
        }


def chosen_schedule(
    cron: str | None, interval: str | None, zone_name: str | None, until: str | None, now: datetime
) -> ChosenSchedule | None:
    """Return the schedule that the options ask for; None if they ask for none.

    Raises CommandError for options that exclude or miss each other, and for a schedule that never fires.
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
    if not schedule.next_times(now, 1):
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


def _prefect_time(at: datetime, zone: str) -> dict[str, str]:
    """Return a time as Prefect's schedules have it."""
    return {"dt": at.astimezone(zone_named(zone)).replace(tzinfo=None).isoformat(), "tz": zone}


def _wrong(message: str) -> CommandError:
    return CommandError(message, exit_codes.USAGE)
