"""Reading and writing times and durations in microseconds."""

from __future__ import annotations

import pytest

from flowherd_server.store.microseconds import format_duration, format_time, parse_duration, parse_time

AT = 1_767_323_045_678_901


@pytest.mark.parametrize("text", ["2026-01-02T05:34:05.678901+02:30", "2026-01-02 03:04:05.678901"])
def test_a_time_is_stored_to_the_microsecond_and_without_an_offset_it_is_utc(text: str) -> None:
    assert parse_time(text) == AT
    assert format_time(AT) == "2026-01-02T03:04:05.678901+00:00"


def test_times_before_the_epoch_are_negative() -> None:
    assert parse_time("1969-12-31T23:59:59.5Z") == -500_000
    assert format_time(-500_000) == "1969-12-31T23:59:59.500000+00:00"


@pytest.mark.parametrize(
    ("duration_us", "text"),
    [(93_784_000_005, "26:03:04.000005"), (60_000_000, "00:01:00"), (-1_500_000, "-00:00:01.5")],
)
def test_durations_are_written_and_read_as_hours_minutes_and_seconds(duration_us: int, text: str) -> None:
    assert format_duration(duration_us) == text
    assert parse_duration(text) == duration_us


@pytest.mark.parametrize("text", ["", "1:2:3", "00:00", "an hour", "+00:00:01"])
def test_something_other_than_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HH:MM:SS"):
        parse_duration(text)
