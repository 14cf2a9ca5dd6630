"""Read values of rows of the GraphQL API."""

from __future__ import annotations

from datetime import datetime

from flowherd.times import read_time


def parsed_time(text: str | None) -> datetime | None:
    """An ISO 8601 time of the dialect, in UTC; without an offset it is UTC already. None for none."""
    return read_time(text, naive="utc") if text else None
