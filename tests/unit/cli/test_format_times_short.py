"""Times and lengths of time in narrow columns."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from flowherd.cli.format_times import short_span, short_time, until

NOW = datetime(2026, 11, 26, 14, 32, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0s"), (8.24, "8.2s"), (48.9, "48s"), (245, "4m05s"), (8040, "2h14m"), (276_400, "3d04h")],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert short_span(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(-5, "now"), (0.5, "now"), (7, "in 7s"), (172, "in 2m52s")])
def test_how_long_it_is_until_a_time(seconds: float, text: str) -> None:
    assert until(NOW + timedelta(seconds=seconds), NOW) == text


def test_a_time_has_as_much_of_its_date_as_is_needed() -> None:
    now = NOW.astimezone().replace(hour=12)
    assert short_time(now.replace(hour=2, minute=30), now) == "02:30"
    assert short_time(now - timedelta(days=2), now) == "Tue 12:32"
    assert short_time(now - timedelta(days=10), now) == "16 Nov 12:32"
    assert short_time(now - timedelta(days=400), now) == "2025-10-22"
    assert short_time(None, now) == ""
