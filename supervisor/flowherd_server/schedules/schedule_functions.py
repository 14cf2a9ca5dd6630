"""The filters and adjustments of schedules, by the names that Prefect gives them. Pure.

    {"fn": "prefect.schedules.filters.between_times", "kwargs": {"start": "//time:09:00:00", "end": "//time:17:00:00"}}

They see a time in the time zone of its clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, time, timedelta, timezone
from typing import Any

from flowherd_server.errors import Refused
from flowherd_server.schedules.schedule_times import at_local_time, read_schedule_time

Filter = Callable[[datetime], bool]
Adjustment = Callable[[datetime], datetime]

_DAY = timedelta(days=1)


def _on_datetime(dt: datetime) -> Filter:
    return lambda at: at == dt


def _between_datetimes(start: datetime, end: datetime) -> Filter:
    return lambda at: start <= at <= end


def _on_date(month: int, day: int) -> Filter:
    return lambda at: (at.month, at.day) == (month, day)


def _between_dates(start_month: int, start_day: int, end_month: int, end_day: int) -> Filter:
    start, end = (start_month, start_day), (end_month, end_day)
    if start_month <= end_month:
        return lambda at: start <= (at.month, at.day) <= end
    return lambda at: (at.month, at.day) >= start or (at.month, at.day) <= end  # over New Year


def _at_time(t: time) -> Filter:
    return lambda at: at.time() == t


def _between_times(start: time, end: time) -> Filter:
    if start <= end:
        return lambda at: start <= at.time() <= end
    return lambda at: at.time() >= start or at.time() <= end  # over midnight


def _is_weekday(at: datetime) -> bool:
    return at.weekday() < 5


def _is_weekend(at: datetime) -> bool:
    return at.weekday() >= 5


def _is_month_start(at: datetime) -> bool:
    return at.day == 1


def _is_month_end(at: datetime) -> bool:
    return (at + _DAY).month != at.month


def _is_day_of_week(day_of_week: int) -> Filter:
    # 0 is Monday, as in Prefect's code; its documentation says Sunday.
    return lambda at: at.weekday() == day_of_week


def _add(interval: timedelta) -> Adjustment:
    return lambda at: (at.astimezone(timezone.utc) + interval).astimezone(at.tzinfo)


def _next_weekday(at: datetime) -> datetime:
    naive, zone = at.replace(tzinfo=None), at.tzinfo
    if _is_weekday(naive) or zone is None:
        return at
    return at_local_time(naive + _DAY * (7 - naive.weekday()), zone)


#: {name: (function, types of its arguments)}. Without arguments the function is the filter, else it returns the filter.
_FILTERS: dict[str, tuple[Callable[..., Any], Mapping[str, type]]] = {
    "on_datetime": (_on_datetime, {"dt": datetime}),
    "between_datetimes": (_between_datetimes, {"start": datetime, "end": datetime}),
    "on_date": (_on_date, {"month": int, "day": int}),
    "between_dates": (_between_dates, dict.fromkeys(("start_month", "start_day", "end_month", "end_day"), int)),
    "at_time": (_at_time, {"t": time}),
    "between_times": (_between_times, {"start": time, "end": time}),
    "is_weekday": (_is_weekday, {}),
    "is_weekend": (_is_weekend, {}),
    "is_month_start": (_is_month_start, {}),
    "is_month_end": (_is_month_end, {}),
    "is_day_of_week": (_is_day_of_week, {"day_of_week": int}),
}
_ADJUSTMENTS: dict[str, tuple[Callable[..., Any], Mapping[str, type]]] = {
    "add": (_add, {"interval": timedelta}),
    "next_weekday": (_next_weekday, {}),
}


def read_filters(what: str, documents: Any) -> list[Filter]:
    """Read a schedule's list of filters. Raises Refused, naming the list as `what`, if it is not one."""
    return [_read(what, document, "prefect.schedules.filters.", _FILTERS) for document in _listed(what, documents)]


def read_adjustments(what: str, documents: Any) -> list[Adjustment]:
    """Read a schedule's list of adjustments. Raises Refused, naming the list as `what`, if it is not one."""
    return [
        _read(what, document, "prefect.schedules.adjustments.", _ADJUSTMENTS) for document in _listed(what, documents)
    ]


def _listed(what: str, documents: Any) -> list[Any]:
    if documents is None:
        return []
    if not isinstance(documents, list):
        raise Refused(f"{what} must be a list")
    return [document for document in documents if document is not None]


def _read(
    what: str, document: Any, prefix: str, known: Mapping[str, tuple[Callable[..., Any], Mapping[str, type]]]
) -> Any:
    fn = document.get("fn") if isinstance(document, dict) else None
    found = known.get(fn.removeprefix(prefix)) if isinstance(fn, str) and fn.startswith(prefix) else None
    if found is None:
        raise Refused(f"{what} names {fn!r}, which this server does not know; it knows {', '.join(known)}")
    make, kinds = found
    given = document.get("kwargs") or {}
    if not isinstance(given, dict) or given.keys() != kinds.keys():
        raise Refused(f"{what}: {fn} takes {', '.join(kinds) or 'no arguments'}, not {given!r}")
    if not kinds:
        return make
    return make(**{name: _value(f"{what}: {fn}: {name}", given[name], kind) for name, kind in kinds.items()})


def _value(what: str, value: Any, kind: type) -> Any:
    if kind is int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Refused(f"{what} must be a whole number, not {value!r}")
        return value
    mark = f"//{kind.__name__}:"
    if not isinstance(value, str) or not value.startswith(mark):
        raise Refused(f"{what} must be a string that begins with {mark}, not {value!r}")
    text = value.removeprefix(mark)
    if kind is datetime:
        return read_schedule_time(what, text)
    try:
        return time.fromisoformat(text) if kind is time else timedelta(seconds=float(text))
    except (ValueError, OverflowError) as error:
        raise Refused(f"{what} is {value!r}: {error}") from error
