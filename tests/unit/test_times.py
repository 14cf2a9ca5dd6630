"""ISO 8601 times are read by one grammar, independent of the Python version."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest

from flowherd.times import read_time, read_time_as_written

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05.678901+00:00",
        "2026-01-02t03:04:05.678901z",
        "2026-01-02 03:04:05.678901+00",
        "2026-01-02T03:04:05,678901Z",
        "2026-01-02T03:04:05.678901999Z",
        " 2026-01-02T03:04:05.678901 Z\n",
        "20260102T030405.678901Z",
        "2026-01-02T05:34:05.678901+02:30",
        "2026-01-02T05:34:05.678901+0230",
        "2026-01-01T21:04:05.678901-06",
        "2026-01-02T03:57:33.678901+00:53:28",
    ],
)
def test_all_spellings_of_a_time_are_read_as_the_same_utc_time(text: str) -> None:
    read = read_time(text, naive="refuse")
    assert (read, read.tzinfo) == (AT, timezone.utc)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02", datetime(2026, 1, 2)),
        ("2026-01-02T03", datetime(2026, 1, 2, 3)),
        ("2026-01-02T03:04", datetime(2026, 1, 2, 3, 4)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5)),
        ("2026-01-02T03:04:05.6", datetime(2026, 1, 2, 3, 4, 5, 600000)),
        ("2026-01-02T03:04:05.06789", datetime(2026, 1, 2, 3, 4, 5, 67890)),
    ],
)
def test_missing_parts_and_missing_digits_are_zero(text: str, expected: datetime) -> None:
    assert read_time(text, naive="utc") == expected.replace(tzinfo=timezone.utc)


def test_a_time_without_an_offset_is_read_as_the_caller_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert read_time("2026-01-02T03:04", naive="utc") == datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc)
        assert read_time("2026-01-02T03:04", naive="local") == datetime(2026, 1, 1, 21, 34, tzinfo=timezone.utc)
        with pytest.raises(ValueError, match="without its offset"):
            read_time("2026-01-02T03:04", naive="refuse")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_offset_in_the_text_wins_over_what_the_caller_says_about_naive_times() -> None:
    expected = datetime(2026, 1, 2, 1, 4, tzinfo=timezone.utc)
    assert read_time("2026-01-02T03:04+02:00", naive="utc") == expected
    assert read_time("2026-01-02T03:04+02:00", naive="local") == expected


def test_a_time_can_be_read_with_the_offset_that_it_was_written_with() -> None:
    assert read_time_as_written("2026-01-02T03:04").tzinfo is None
    assert read_time_as_written("2026-01-02T03:04Z").utcoffset() == timedelta(0)
    assert read_time_as_written("2026-01-02T03:04-0230").utcoffset() == -timedelta(hours=2, minutes=30)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "1767323045",
        "2026-13-01T00:00:00Z",
        "2026-01-02T24:00:00Z",
        "2026-01-02T03:04:60Z",
        "2026-01-02T03:04:05+99:00",
        "2026-W01-5",
        "202601-02",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05Z and more",
        "٢٠٢٦-01-02",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
    ],
)
@pytest.mark.parametrize("naive", ["utc", "local", "refuse"])
def test_anything_else_is_a_value_error(text: str, naive: str) -> None:
    with pytest.raises(ValueError):
        read_time(text, naive=naive)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, 1767323045, b"2026-01-02", {"dt": "2026-01-02"}])
def test_a_value_that_is_not_text_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        read_time(value, naive="utc")  # type: ignore[arg-type]
