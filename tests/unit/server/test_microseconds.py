"""Times as clients write them, read to the microsecond."""

from __future__ import annotations

import pytest

from flowherd_server.store.microseconds import format_duration, format_time, parse_time

AT = 1_767_323_045_678_901


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05.678901+00:00",
        "2026-01-02 03:04:05.678901+00:00",
        "2026-01-02T03:04:05.678901Z",
        "2026-01-02T03:04:05.678901",
        "2026-01-02T03:04:05.678901999Z",
        "2026-01-02T05:34:05.678901+02:30",
        "2026-01-02T05:34:05.678901+0230",
        "2026-01-01T21:04:05.678901-06",
    ],
)
def test_every_usual_way_to_write_a_time_is_read_as_the_same_moment(text: str) -> None:
    assert parse_time(text) == AT
    assert format_time(AT) == "2026-01-02T03:04:05.678901+00:00"


@pytest.mark.parametrize(
    ("text", "more"), [("2026-01-02", 0), ("2026-01-02T03:04", 11040), ("2026-01-02T03:04:05", 11045)]
)
def test_what_is_left_out_of_a_time_is_zero(text: str, more: int) -> None:
    assert parse_time(text) == (1_767_312_000 + more) * 1_000_000


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-01-02T03:04:05+99:00", "1767323045"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_time(text)


def test_durations_read_as_hours_minutes_seconds() -> None:
    assert format_duration(93_784_000_005) == "26:03:04.000005"
    assert format_duration(60_000_000) == "00:01:00"
    assert format_duration(-1_500_000) == "-00:00:01.5"
