"""Reading ISO 8601 times: one grammar and one function for agent, command line and server.

datetime.fromisoformat is not used because what it accepts depends on the Python version: 3.10 reads neither `Z` nor
fractions of other than three or six digits, later versions also read week dates.

The grammar, the same on every Python:

- a date as YYYY-MM-DD or YYYYMMDD, alone (midnight) or followed by `T` or a space and a time;
- a time as HH, HH:MM or HH:MM:SS, with or without the colons;
- after the seconds a fraction of any length, following a dot or a comma; digits after the sixth are cut off;
- an offset as `Z`, ±HH, ±HH:MM or ±HH:MM:SS, with or without the colons.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Literal

_ISO = re.compile(
    r"""(?P<year>\d{4})(?P<dash>-?)(?P<month>\d{2})(?P=dash)(?P<day>\d{2})
        (?:[Tt ](?P<hour>\d{2})(?::?(?P<minute>\d{2})(?::?(?P<second>\d{2})(?:[.,](?P<fraction>\d+))?)?)?)?
        \s*(?P<offset>[Zz]|(?P<sign>[+-])(?P<hours>\d{2})(?::?(?P<minutes>\d{2})(?::?(?P<seconds>\d{2}))?)?)?""",
    re.ASCII | re.VERBOSE,
)


def read_time(text: str, *, naive: Literal["utc", "local", "refuse"]) -> datetime:
    """Read an ISO 8601 time and return it as an aware datetime in UTC.

    `naive` says what a time without an offset is: UTC, local time of this host, or an error.
    Raises ValueError if the text is not such a time, or is one that UTC has only outside the years 1 to 9999;
    TypeError if it is not text.
    """
    at = read_time_as_written(text)
    if at.tzinfo is None:
        if naive == "refuse":
            raise ValueError(f"a time without its offset: {text!r:.80}")
        if naive == "utc":
            return at.replace(tzinfo=timezone.utc)
    try:
        return at.astimezone(timezone.utc)  # takes a naive time as local
    except (OverflowError, OSError) as error:
        raise ValueError(f"a time out of range: {text!r:.80}") from error


def read_time_as_written(text: str) -> datetime:
    """Read an ISO 8601 time with the offset that it was written with, naive if it was written without one.

    For callers to whom the offset itself means something, such as schedules. Raises ValueError and TypeError as
    `read_time` does.
    """
    match = _ISO.fullmatch(text.strip() if isinstance(text, str) else text)
    if match is None:
        raise ValueError(f"not an ISO 8601 time: {text!r:.80}")
    year, month, day, hour, minute, second = (
        int(match[part] or 0) for part in ("year", "month", "day", "hour", "minute", "second")
    )
    microsecond = int((match["fraction"] or "0")[:6].ljust(6, "0"))
    return datetime(year, month, day, hour, minute, second, microsecond, _offset(match))


def _offset(match: re.Match[str]) -> timezone | None:
    if match["offset"] is None:
        return None
    if match["sign"] is None:
        return timezone.utc
    hours, minutes, seconds = (int(match[part] or 0) for part in ("hours", "minutes", "seconds"))
    span = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return timezone(-span if match["sign"] == "-" else span)
