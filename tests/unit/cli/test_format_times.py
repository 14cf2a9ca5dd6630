"""Times and lengths of time as they are shown to people."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from flowherd.cli import format_times


def test_a_time_of_today_is_shown_without_its_date() -> None:
    now = datetime(2030, 1, 31, 12, tzinfo=timezone.utc)
    assert format_times.local_time(None) == ""
    assert len(format_times.local_time(now, now)) == len("12:00:00")
    assert format_times.local_time(now - timedelta(days=3), now).startswith("2030-01-2")


@pytest.mark.parametrize(("seconds", "text"), [(0, "0.0s"), (59.94, "59.9s"), (245, "4m05s"), (7800, "2h10m")])
def test_a_length_of_time(seconds: float, text: str) -> None:
    assert format_times.span(seconds) == text
