"""Read values of rows of the GraphQL API."""

from __future__ import annotations

from datetime import datetime, timezone


def parsed_time(text: str | None) -> datetime | None:
    """An ISO 8601 time of the dialect, in UTC; without an offset it is UTC already. None for none."""
    if not text:
        return None
    # Python 3.10's parser wants three or six digits of a fraction, and no Z.
    head, dot, rest = text.replace("Z", "+00:00").replace(" ", "T").partition(".")
    if dot:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        head += "." + rest[:digits].ljust(6, "0")[:6] + rest[digits:]
    at = datetime.fromisoformat(head)
    return at.replace(tzinfo=timezone.utc) if at.tzinfo is None else at.astimezone(timezone.utc)
