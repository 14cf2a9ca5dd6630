"""Reads one field of a cron expression: `*`, numbers, names, ranges, lists and steps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_ITEM = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?", re.ASCII)
#: What other programs allow in a field, and what to do here.
_ELSEWHERE = (
    (re.compile(r"\?"), "; instead of Quartz's `?` write `*`"),
    (re.compile(r"~"), "; there are no random times (`~`), so choose one"),
    (re.compile(r"H(?!\w)"), "; there are no times chosen by a hash (`H`), so choose one"),
    (re.compile(r"(\d|L)W"), "; there is no nearest working day (`W`)"),
)


class ScheduleError(ValueError):
    """A schedule cannot be followed. The message says why, and what to write instead if that is known."""


@dataclass(frozen=True)
class FieldKind:
    """Which values a field may have."""

    #: What one value is, with its article.
    name: str
    lowest: int
    highest: int
    names: Mapping[str, int] = field(default_factory=dict)

    @property
    def whole(self) -> frozenset[int]:
        """All values."""
        return frozenset(range(self.lowest, self.highest + 1))


MINUTE = FieldKind("a minute", 0, 59)
HOUR = FieldKind("an hour", 0, 23)
DAY = FieldKind("a day of the month", 1, 31)
MONTH = FieldKind("a month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)})
#: 0 is Sunday; so is 7, which `values_of` turns into 0.
WEEKDAY = FieldKind("a day of the week", 0, 6, {name: number for number, name in enumerate(_WEEKDAYS)})


def values_of(text: str, kind: FieldKind) -> frozenset[int]:
    """Return the values that a field allows. Raises ScheduleError, which names the field."""
    return frozenset(value for item in text.split(",") for value in _item(item, kind))


def number_of(text: str, kind: FieldKind) -> int:
    """Return the value of a number or a name. Raises ScheduleError, which names the field."""
    value = kind.names.get(text.lower())
    if value is None and text.isdecimal() and text.isascii():
        value = int(text)
    if value is not None and kind is WEEKDAY:
        value = 0 if value == 7 else value
    if value is None or not kind.lowest <= value <= kind.highest:
        highest = 7 if kind is WEEKDAY else kind.highest
        names = f", or {next(iter(kind.names))} and so on" if kind.names else ""
        raise ScheduleError(
            f"{text!r} is not {kind.name}; it is a number from {kind.lowest} to {highest}{names}{_hint(text)}"
        )
    return value


def _hint(text: str) -> str:
    return next((advice for sign, advice in _ELSEWHERE if sign.search(text)), "")


def _item(item: str, kind: FieldKind) -> Iterator[int]:
    match = _ITEM.fullmatch(item)
    if match is None or (match["first"] == "*" and match["last"]):
        raise ScheduleError(f"{item!r} is not {kind.name}; write it as *, 5, 1-5, 1,3 or */10{_hint(item)}")
    first, last, step = match["first"], match["last"], int(match["step"] or 1)
    if first == "*":
        values = list(range(kind.lowest, kind.highest + 1))
    elif last is None:
        begin = number_of(first, kind)
        values = list(range(begin, kind.highest + 1)) if match["step"] else [begin]
    else:
        values = list(_range(number_of(first, kind), _end(last, kind), kind))
    _check_step(item, step, kind)
    yield from (kind.lowest if value > kind.highest else value for value in values[::step])


def _end(text: str, kind: FieldKind) -> int:
    # 7 as the end of a range is the Sunday after it: 5-7 is from Friday to Sunday.
    return 7 if kind is WEEKDAY and text == "7" else number_of(text, kind)


def _range(begin: int, end: int, kind: FieldKind) -> Iterator[int]:
    yield from range(begin, (end if end >= begin else kind.highest) + 1)
    if end < begin:  # over the end of the hour, day, month, week or year: 22-2, fri-mon
        yield from range(kind.lowest, end + 1)


def _check_step(item: str, step: int, kind: FieldKind) -> None:
    span = kind.highest - kind.lowest + 1
    if 0 < step <= span:
        return
    if step > span and kind in (MINUTE, HOUR):
        unit, letter = ("minutes", "m") if kind is MINUTE else ("hours", "h")
        whole = "an hour" if kind is MINUTE else "a day"
        raise ScheduleError(
            f"the step in {item!r} is longer than {whole}, so it would only be counted from the beginning of {whole}; "
            f"for every {step} {unit} use an interval: {step}{letter}"
        )
    raise ScheduleError(f"the step in {item!r} must be from 1 to {span}")
