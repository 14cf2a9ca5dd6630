"""A schedule in words: "every 5 minutes", "daily at 02:30", "Mondays and Thursdays at 09:00"."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flowherd.schedules.cron import Cron, read_cron
from flowherd.schedules.cron_fields import DAY, HOUR, MINUTE, MONTH, WEEKDAY, ScheduleError

_MONTHS = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_PLACES = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", -1: "last"}
#: Maximum number of times of a day that are listed.
_MAX_TIMES = 4
_UNITS = (("week", 604_800), ("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def schedule_in_words(schedule: Mapping[str, Any] | None) -> str:
    """Return in words when a schedule fires; of what cannot be put into words its own form."""
    words = list(dict.fromkeys(map(clock_in_words, clocks_of(schedule))))
    filtered = any((schedule or {}).get(key) for key in ("filters", "or_filters", "not_filters", "adjustments"))
    return "; ".join(words) + (", with filters" if words and filtered else "")


def clocks_of(schedule: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    """Return the clocks of a schedule as far as they can be read."""
    clocks = (schedule or {}).get("clocks")
    return [clock for clock in clocks if isinstance(clock, dict)] if isinstance(clocks, list) else []


def cron_lines(schedule: Mapping[str, Any] | None) -> str:
    """Return the cron expressions of a schedule as they are written."""
    return "; ".join(dict.fromkeys(str(clock["cron"]) for clock in clocks_of(schedule) if clock.get("cron")))


def zones_of(schedule: Mapping[str, Any] | None) -> Sequence[str]:
    """Return the names of the time zones of a schedule; none if it goes by elapsed time alone."""
    return list(dict.fromkeys(zone for clock in clocks_of(schedule) if (zone := _zone_of(clock))))


def _zone_of(clock: Mapping[str, Any]) -> str | None:
    start = clock.get("start_date")
    zone = clock.get("timezone") or (start.get("tz") if isinstance(start, dict) else None)
    if isinstance(zone, str) and zone != "UTC":
        return zone
    return "UTC" if clock.get("cron") else None


def clock_in_words(clock: Mapping[str, Any]) -> str:
    """Return in words when one clock fires."""
    kind = str(clock.get("type")).rpartition(".")[2]
    if isinstance(clock.get("cron"), str):
        return cron_in_words(clock["cron"])
    if isinstance(clock.get("interval"), int):
        return interval_in_words(clock["interval"] / 1_000_000)
    if isinstance(clock.get("dates"), list):
        return "once" if len(clock["dates"]) == 1 else f"on {len(clock['dates'])} dates"
    return "by a recurrence rule" if kind == "RRuleClock" else kind


def interval_in_words(seconds: float) -> str:
    """Return "every 15 minutes", or "every hour"."""
    for unit, length in _UNITS:
        number, rest = divmod(seconds, length)
        if number >= 1 and not rest:
            return f"every {unit}" if number == 1 else f"every {int(number)} {unit}s"
    return f"every {seconds:g} seconds"


def cron_in_words(text: str) -> str:
    """Return in words when a cron expression fires; the expression itself if that has no short form."""
    try:
        cron = read_cron(text)
    except ScheduleError:  # one of croniter's, in a CronClock
        return text
    times, days = _times(cron), _days(cron)
    if times is None or days is None:
        return cron.text
    if times.startswith("every"):
        return f"{times}, {days}" if days else times
    return f"{days or 'daily'} {times}"


def _times(cron: Cron) -> str | None:
    minutes, hours = cron.minutes, cron.hours
    if hours == tuple(sorted(HOUR.whole)):
        return _each_hour(minutes)
    step = _step(hours, 24)
    if step is not None and cron.by_elapsed_time and len(minutes) == 1:
        return f"every {step} hours" + (f" at minute {minutes[0]}" if minutes[0] else "")
    if len(minutes) * len(hours) <= _MAX_TIMES:
        return f"at {_joined([f'{hour:02}:{minute:02}' for hour in hours for minute in minutes])}"
    in_row = len(hours) > 1 and hours == tuple(range(hours[0], hours[-1] + 1))
    every = "every hour" if len(minutes) == 1 else _each_hour(minutes)
    if (in_row or len(hours) == 1) and "at" not in every.split():
        return f"{every} from {hours[0]:02}:{minutes[0]:02} to {hours[-1]:02}:{minutes[-1]:02}"
    return None


def _each_hour(minutes: Sequence[int]) -> str:
    step = _step(minutes, 60)
    if minutes == tuple(sorted(MINUTE.whole)):
        return "every minute"
    if step is not None:
        return f"every {step} minutes"
    if minutes == (0,):
        return "every hour"
    return f"every hour at minute{'' if len(minutes) == 1 else 's'} {_joined([str(minute) for minute in minutes])}"


def _step(values: Sequence[int], span: int) -> int | None:
    """Return the distance of values that divide a span into equal parts from its beginning on."""
    step = span // len(values)
    return step if 1 < step < span and tuple(values) == tuple(range(0, span, step)) else None


def _days(cron: Cron) -> str | None:
    """Return on which days, in words: empty for every day, None if there are no short words for it."""
    of_month, of_week = _days_of_month(cron), _days_of_week(cron)
    months = _joined([_MONTHS[month - 1] for month in sorted(cron.months)])
    every_month = cron.months == MONTH.whole
    if of_month and of_week and not cron.either_day:
        return None
    if len(cron.days) == 1 and not of_week and not cron.last_day and not every_month:
        return f"on {min(cron.days)} {months}"
    each = " of the month" if every_month else ""
    days = f"on {of_month}{each}" if of_month else ""
    if of_week:
        days += " and " if days else ""
        days += f"on {of_week}{each}" if cron.nth else f"on {of_week}" if of_month else of_week
    return days if every_month else f"{days or 'daily'} in {months}"


def _days_of_month(cron: Cron) -> str:
    if cron.days == DAY.whole:
        return ""
    numbers = _runs(sorted(cron.days))
    days = [f"day {numbers[0]}" if len(cron.days) == 1 else f"days {_joined(numbers)}"] if numbers else []
    return _joined([*days, *(["the last day"] if cron.last_day else [])])


def _runs(numbers: Sequence[int]) -> list[str]:
    """Return the numbers, three and more in a row as "8 to 14"."""
    rows: list[list[int]] = []
    for number in numbers:
        if rows and number == rows[-1][-1] + 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    return [
        word for row in rows for word in ([f"{row[0]} to {row[-1]}"] if len(row) > 2 else [str(each) for each in row])
    ]


def _days_of_week(cron: Cron) -> str:
    if cron.weekdays == WEEKDAY.whole:
        return ""
    nth = [f"the {_PLACES[place]} {_WEEKDAYS[day]}" for day, place in sorted(cron.nth)]
    if not nth and cron.weekdays == {1, 2, 3, 4, 5}:
        return "weekdays"
    if not nth and cron.weekdays == {0, 6}:
        return "weekends"
    monday_first = sorted(cron.weekdays, key=lambda day: day or 7)
    return _joined([*(f"{_WEEKDAYS[day]}s" for day in monday_first), *nth])


def _joined(items: Collection[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last
