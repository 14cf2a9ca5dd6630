"""Recurrence rules (RFC 5545) as Prefect 1.4 writes them, read into dateutil's objects and followed. Pure.

    {"type": "rrule", "rr": "DTSTART:...\\nRRULE:FREQ=...", "_dtstart": ISO 8601, "_until": ISO 8601 or null}
    {"type": "rruleset", "_rrule": [...], "_rdate": [...], "_exrule": [...], "_exdate": [...]}

The text has no zone; `_dtstart` and `_until` have, as an offset, and stand for what the text says of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from dateutil import rrule  # type: ignore[import-untyped]

from flowherd_server.errors import Refused
from flowherd_server.schedules.schedule_times import read_moment

#: Of rules whose step is always as long; dateutil goes from the start step by step, through years of minutes.
_STEPS = {
    rrule.SECONDLY: timedelta(seconds=1),
    rrule.MINUTELY: timedelta(minutes=1),
    rrule.HOURLY: timedelta(hours=1),
    rrule.DAILY: timedelta(days=1),
    rrule.WEEKLY: timedelta(weeks=1),
}
#: Where Prefect begins a rule that does not say when.
_RULES_BEGIN = "2018-06-20T00:00:00+00:00"
_LONGEST_RULE = 2_000


def recurrence_times(document: Any, after: datetime) -> Iterator[datetime]:
    """The times later than `after` of a rule or a set of them, in order.

    Raises Refused, here or at the first time, when it is none that can be followed.
    """
    if not isinstance(document, dict):
        raise Refused("an RRuleClock's rrule_obj must be a JSON object")
    rules = _rule_set(document, after) if document.get("type") == "rruleset" else _rule(document, after)
    return _followed(rules, after)


def _followed(rules: rrule.rrulebase, after: datetime) -> Iterator[datetime]:
    try:
        yield from rules.xafter(after)
    except (TypeError, ValueError) as error:
        raise Refused(f"an RRuleClock's rule cannot be followed: {error}") from error


def _rule_set(document: dict[str, Any], after: datetime) -> rrule.rruleset:
    rules = rrule.rruleset()
    for key, add, read in (
        ("_rrule", rules.rrule, lambda value: _rule(value, after)),
        ("_rdate", rules.rdate, lambda value: read_moment("a recurrence's date", value)),
        ("_exrule", rules.exrule, lambda value: _rule(value, after)),
        ("_exdate", rules.exdate, lambda value: read_moment("a recurrence's exception", value)),
    ):
        values = document.get(key) or []
        if not isinstance(values, list):
            raise Refused(f"an rruleset's {key} must be a list")
        for value in values:
            add(read(value))
    return rules


def _rule(document: Any, after: datetime) -> rrule.rrule:
    text = document.get("rr") if isinstance(document, dict) else None
    if not isinstance(text, str) or len(text) > _LONGEST_RULE:
        raise Refused(f"an rrule's rr must be a text of at most {_LONGEST_RULE} characters")
    start = read_moment("an rrule's _dtstart", document.get("_dtstart") or _RULES_BEGIN)
    until = document.get("_until")
    try:
        rule = rrule.rrulestr(text)
        if not isinstance(rule, rrule.rrule):
            raise ValueError("it is a set of rules")
        until = rule._until if "_until" not in document else until and read_moment("an rrule's _until", until)
        if until is not None and until.tzinfo is None:
            until = until.replace(tzinfo=timezone.utc)
        return _nearer(rule.replace(dtstart=start, until=until), start, after)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Refused(f"an rrule's rr is {text!r}: {error}") from error


def _nearer(rule: rrule.rrule, start: datetime, after: datetime) -> rrule.rrule:
    """The same rule from a later start, where that changes none of its later times."""
    step = _STEPS.get(rule._freq)
    if step is None or rule._count is not None:  # a count is counted from the start
        return rule
    step *= rule._interval
    skipped = (after - start) // step - 1
    return rule.replace(dtstart=start + step * skipped) if skipped > 0 else rule
