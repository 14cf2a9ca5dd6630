"""A flow's schedule, as it is registered: by a cron expression or at an interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Any

from flowherd.client.flows import falsy_defaults
from flowherd.errors import InvalidRequest
from flowherd.schedules.cron import Cron, read_cron
from flowherd.schedules.cron_fields import ScheduleError
from flowherd.schedules.cron_times import cron_times
from flowherd.schedules.host_zone import host_zone_name
from flowherd.schedules.in_words import cron_in_words, interval_in_words
from flowherd.schedules.own_clock import own_clock, zone_named

_MINUTES, _SECONDS = "%a %Y-%m-%d %H:%M", "%a %Y-%m-%d %H:%M:%S"


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
        """Return a time for people: of a cron expression in its zone, of an interval in this host's."""
        if self.cron is None:
            return at.astimezone().strftime(_SECONDS)
        return at.astimezone(zone_named(self.zone)).strftime(_MINUTES)

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


def schedule_of(
    cron: str | None, interval_s: float | None, zone: str | None, until: datetime | None, now: datetime
) -> ChosenSchedule | None:
    """Return the schedule by a cron expression in a time zone, or at an interval; None without either.

    Without `zone` it is that of this host, else UTC. Raises InvalidRequest for what is not possible, and for a schedule
    that never fires.
    """
    if cron is None and interval_s is None:
        if zone is not None or until is not None:
            raise InvalidRequest("timezone and until are about a schedule; give one with cron or interval_s")
        return None
    if cron is not None and interval_s is not None:
        raise InvalidRequest("cron and interval_s exclude each other")
    if interval_s is not None and interval_s < 1:
        raise InvalidRequest(f"the interval of a schedule must be at least one second, not {interval_s:g} s")
    found = zone or host_zone_name()
    try:
        zone_named(found or "UTC")
        schedule = ChosenSchedule(
            cron=None if cron is None else read_cron(cron),
            interval_s=interval_s or 0.0,
            zone=found or "UTC",
            zone_is_guess=found is None,
            until=until,
            begin=now,
        )
    except ScheduleError as error:
        raise InvalidRequest(f"the schedule cannot be followed: {error}") from error
    if not schedule.next_times(now, 1):
        raise InvalidRequest(f"the schedule ends at {until}, before its first run")
    return schedule


def _prefect_time(at: datetime, zone: str) -> dict[str, str]:
    """Return a time as Prefect's schedules have it."""
    return {"dt": at.astimezone(zone_named(zone)).replace(tzinfo=None).isoformat(), "tz": zone}
