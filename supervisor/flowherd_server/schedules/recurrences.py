"""Recurrence rules (RFC 5545) in the form in which Prefect 1.4 stores dateutil's objects. Pure.

    {"type": "rrule", "rr": "DTSTART:...\\nRRULE:FREQ=...", "_dtstart": ISO 8601, "_until": ISO 8601 or null}
    {"type": "rruleset", "_rrule": [...], "_rdate": [...], "_exrule": [...], "_exdate": [...]}

The text `rr` has no time zone. `_dtstart` and `_until` have an offset and replace what the text says.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from dateutil import rrule  # type: ignore[import-untyped]

from flowherd_server.errors import Refused
from flowherd_server.schedules.schedule_times import read_schedule_time

#: Length of the step of rules whose steps are all equally long. Used to skip past steps, because dateutil goes through
#: all steps from the start, even years of minutes.
_STEPS = {
    rrule.SECONDLY: timedelta(seconds=1),
    rrule.MINUTELY: timedelta(minutes=1),
    rrule.HOURLY: timedelta(hours=1),
    rrule.DAILY: timedelta(days=1),
    rrule.WEEKLY: timedelta(weeks=1),
}
#: Start of rules without a start, as in Prefect.
_RULES_BEGIN = "2018-06-20T00:00:00+00:00"
_LONGEST_RULE = 2_000


def recurrence_times(document: Any, after: datetime) -> Iterator[datetime]:
    """Return the times later than `after` of a rule or a set of rules, in order.

    Raises Refused, now or when the first time is taken, if the rule cannot be followed.
    """
    if not isinstance(document, dict):
        raise Refused("an RRuleClock's rrule_obj must be a JSON object")
    rules = _rule_set(document, after) if document.get("type") == "rruleset" else _rule(document, after)
    return _times_after(rules, after)


def _times_after(rules: rrule.rrulebase, after: datetime) -> Iterator[datetime]:
    try:
        yield from rules.xafter(after)
    except (TypeError, ValueError) as error:
        raise Refused(f"an RRuleClock's rule cannot be followed: {error}") from error


def _rule_set(document: dict[str, Any], after: datetime) -> rrule.rruleset:
    rules = rrule.rruleset()
    for key, add, read in (
        ("_rrule", rules.rrule, lambda value: _rule(value, after)),
        ("_rdate", rules.rdate, lambda value: read_schedule_time("a recurrence's date", value)),
        ("_exrule", rules.exrule, lambda value: _rule(value, after)),
        ("_exdate", rules.exdate, lambda value: read_schedule_time("a recurrence's exception", value)),
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
        raise Refused(f"an rrule's rr must be a string of at most {_LONGEST_RULE} characters")
    start = read_schedule_time("an rrule's _dtstart", document.get("_dtstart") or _RULES_BEGIN)
    until = document.get("_until")
    try:
        rule = rrule.rrulestr(text)
        if not isinstance(rule, rrule.rrule):
            raise ValueError("it is a set of rules")
        until = rule._until if "_until" not in document else until and read_schedule_time("an rrule's _until", until)
        if until is not None and until.tzinfo is None:
            until = until.replace(tzinfo=timezone.utc)
        return _from_later_start(rule.replace(dtstart=start, until=until), start, after)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Refused(f"an rrule's rr is {text!r}: {error}") from error


def _from_later_start(rule: rrule.rrule, start: datetime, after: datetime) -> rrule.rrule:
    """Return the rule with a later start if that changes none of its times after `after`, else as it is."""
    step = _STEPS.get(rule._freq)
    if step is None or rule._count is not None:  # a count is counted from the start
        return rule
    step *= rule._interval
    skipped = (after - start) // step - 1
    return rule.replace(dtstart=start + step * skipped) if skipped > 0 else rule
