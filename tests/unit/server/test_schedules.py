"""The times at which schedules fire."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowherd_server.errors import Refused
from flowherd_server.schedules.schedule import next_firings
from flowherd_server.store.microseconds import format_time, parse_time

NOW = "2026-03-27T10:00:30Z"
HOUR = 3600 * 1_000_000


def firings(*clocks: dict[str, Any], after: str = NOW, count: int = 3) -> list[str]:
    found = next_firings({"clocks": list(clocks)}, parse_time(after), count)
    return [format_time(firing.at_us).removesuffix(".000000+00:00") for firing in found]


def test_an_interval_counts_from_its_start_and_keeps_its_phase() -> None:
    clock = {"type": "IntervalClock", "interval": HOUR, "start_date": {"dt": "2026-03-01T00:20:00", "tz": "UTC"}}
    assert firings(clock) == ["2026-03-27T10:20:00", "2026-03-27T11:20:00", "2026-03-27T12:20:00"]


def test_an_interval_with_a_future_start_begins_with_its_start() -> None:
    clock = {"type": "IntervalClock", "interval": HOUR, "start_date": "2026-03-28T00:00:00Z"}
    assert firings(clock, count=2) == ["2026-03-28T00:00:00", "2026-03-28T01:00:00"]


def test_a_firing_is_later_than_now_and_never_equal_to_it() -> None:
    clock = {"type": "IntervalClock", "interval": HOUR}
    assert firings(clock, after="2026-03-27T10:00:00Z", count=1) == ["2026-03-27T11:00:00"]


def test_a_daily_interval_keeps_its_local_time_through_a_change_to_summer_time() -> None:
    clock = {
        "type": "IntervalClock",
        "interval": 24 * HOUR,
        "start_date": {"dt": "2026-03-01T08:00:00", "tz": "Europe/Berlin"},
    }
    assert firings(clock) == ["2026-03-28T07:00:00", "2026-03-29T06:00:00", "2026-03-30T06:00:00"]


def test_a_cron_clock_fires_in_its_own_time_zone() -> None:
    clock = {
        "type": "CronClock",
        "cron": "0 8 * * *",
        "start_date": {"dt": "2026-03-01T00:00:00", "tz": "Europe/Berlin"},
    }
    assert firings(clock) == ["2026-03-28T07:00:00", "2026-03-29T06:00:00", "2026-03-30T06:00:00"]


def test_a_cron_clock_without_a_start_fires_in_utc() -> None:
    assert firings({"type": "CronClock", "cron": "15 */6 * * *"}, count=2) == [
        "2026-03-27T12:15:00",
        "2026-03-27T18:15:00",
    ]


def test_a_cron_clock_fires_at_its_start_date_if_that_matches() -> None:
    clock = {"type": "CronClock", "cron": "0 12 * * *", "start_date": "2026-04-01T12:00:00Z"}
    assert firings(clock, count=1) == ["2026-04-01T12:00:00"]


def test_a_cron_expression_without_a_matching_date_never_fires() -> None:
    assert firings({"type": "CronClock", "cron": "0 0 30 2 *"}) == []


def test_a_clock_ends_at_its_end_date() -> None:
    clock = {"type": "IntervalClock", "interval": HOUR, "end_date": "2026-03-27T12:00:00Z"}
    assert firings(clock, count=9) == ["2026-03-27T11:00:00", "2026-03-27T12:00:00"]


def test_dates_fire_in_order_and_not_in_the_past() -> None:
    dates = ["2026-05-01T00:00:00Z", "2026-01-01T00:00:00Z", {"dt": "2026-04-01T00:00:00", "tz": "UTC"}]
    assert firings({"type": "DatesClock", "dates": dates}) == ["2026-04-01T00:00:00", "2026-05-01T00:00:00"]


def test_several_clocks_are_merged_and_keep_their_own_parameters_and_labels() -> None:
    schedule = {
        "clocks": [
            {"type": "IntervalClock", "interval": 2 * HOUR, "parameter_defaults": {"n": 1}},
            {"type": "IntervalClock", "interval": 3 * HOUR, "labels": ["b"]},
        ]
    }
    found = next_firings(schedule, parse_time("2026-03-27T10:00:00Z"), 4)
    assert [(format_time(f.at_us)[11:13], f.parameters, f.labels) for f in found] == [
        ("12", {"n": 1}, None),
        ("12", None, ["b"]),
        ("14", {"n": 1}, None),
        ("15", None, ["b"]),
    ]


#: Times that prefect.schedules of Prefect 1.4.1 returns; where `also_0_13` is true, 0.13.1 returns them too.
PREFECT = json.loads(Path(__file__).with_name("prefect_schedules.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in PREFECT])
def test_a_schedule_fires_at_the_same_times_as_in_prefect(case: dict[str, Any]) -> None:
    expected = sorted({parse_time(text) for text in case["times"]})
    found = next_firings(case["schedule"], parse_time(case["after"]), len(expected))
    assert [format_time(firing.at_us) for firing in found] == [format_time(at_us) for at_us in expected]


def test_a_time_zone_may_be_an_offset() -> None:
    clock = {"type": "CronClock", "cron": "0 8 * * *", "start_date": {"dt": "2026-03-01T00:00:00", "tz": "-05:30"}}
    assert firings(clock, count=1) == ["2026-03-27T13:30:00"]


def test_filters_that_leave_nothing_end_the_search() -> None:
    filters = [{"fn": "prefect.schedules.filters.on_date", "kwargs": {"month": 2, "day": 30}}]
    schedule = {"clocks": [{"type": "IntervalClock", "interval": HOUR}], "filters": filters}
    assert next_firings(schedule, parse_time(NOW), 1) == []


def test_two_times_that_are_adjusted_to_the_same_time_are_one_run() -> None:
    clock = {"type": "IntervalClock", "interval": 24 * HOUR, "start_date": "2026-03-01T08:00:00Z"}
    schedule = {"clocks": [clock], "adjustments": [{"fn": "prefect.schedules.adjustments.next_weekday", "kwargs": {}}]}
    found = next_firings(schedule, parse_time("2026-03-27T10:00:00Z"), 2)
    assert [format_time(firing.at_us)[:10] for firing in found] == ["2026-03-30", "2026-03-31"]


def _rule(rule: str, **more: Any) -> dict[str, Any]:
    return {"type": "RRuleClock", "rrule_obj": {"type": "rrule", "rr": f"RRULE:{rule}", **more}}


@pytest.mark.parametrize(
    "schedule",
    [
        {"clocks": None},
        {"clocks": ["daily"]},
        {"clocks": [], "filters": [{"fn": "prefect.schedules.filters.is_holiday"}]},
        {"clocks": [], "filters": [{"fn": "os.system", "kwargs": {"command": "true"}}]},
        {"clocks": [], "filters": ["prefect.schedules.filters.is_weekday"]},
        {"clocks": [], "filters": {"fn": "prefect.schedules.filters.is_weekday"}},
        {"clocks": [], "or_filters": [{"fn": "prefect.schedules.filters.at_time", "kwargs": {}}]},
        {"clocks": [], "not_filters": [{"fn": "prefect.schedules.filters.at_time", "kwargs": {"t": "//time:25:00"}}]},
        {"clocks": [], "adjustments": [{"fn": "prefect.schedules.adjustments.add", "kwargs": {"interval": 5}}]},
        {"clocks": [], "filters": [{"fn": "prefect.schedules.filters.is_day_of_week", "kwargs": {"day_of_week": "3"}}]},
        {"clocks": [_rule("FREQ=OFTEN")]},
        {"clocks": [_rule("FREQ=DAILY", _dtstart="noon")]},
        {"clocks": [_rule("FREQ=DAILY" + ";BYHOUR=1" * 1000)]},
        {"clocks": [{"type": "RRuleClock", "rrule_obj": {"type": "rruleset", "_rdate": "today"}}]},
        {"clocks": [{"type": "RRuleClock"}]},
        {"clocks": [{"type": "IntervalClock", "interval": 1000}]},
        {"clocks": [{"type": "IntervalClock", "interval": True}]},
        {"clocks": [{"type": "IntervalClock", "interval": HOUR, "start_date": "noon"}]},
        {
            "clocks": [
                {"type": "IntervalClock", "interval": HOUR, "start_date": {"dt": "2026-01-01", "tz": "Mars/Olympus"}}
            ]
        },
        {"clocks": [{"type": "CronClock", "cron": "every day"}]},
        {"clocks": [{"type": "CronClock", "cron": None}]},
        {"clocks": [{"type": "FlowherdCron", "cron": None}]},
        {"clocks": [{"type": "FlowherdCron", "cron": ["@daily"]}]},
        {"clocks": [{"type": "FlowherdCron", "cron": "0,".ljust(2_000, "1") + " 0 * * *"}]},
        {"clocks": [{"type": "FlowherdCron", "cron": "0 0 * * *", "timezone": {"tz": "UTC"}}]},
        {"clocks": [{"type": "FlowherdCron", "cron": "0 0 * * *", "timezone": "../../etc/passwd"}]},
        {"clocks": [{"type": "FlowherdCron", "cron": "0 0 30 2 *"}]},
        {"clocks": [{"type": "FlowherdCron", "cron": "0 0 * * *", "timezone": "Europe/Nowhere"}]},
        {"clocks": [{"type": "FlowherdCron", "cron": "0 0 * * *", "end": "2026-03-30"}]},
        {"clocks": [{"type": "DatesClock"}]},
        {"clocks": [{"type": "CronClock", "cron": "* * * * *", "labels": "a"}]},
    ],
)
def test_a_schedule_that_cannot_be_followed_is_refused(schedule: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        next_firings(schedule, parse_time(NOW), 3)


def test_flowherds_own_clock_follows_its_zone_its_start_and_its_end() -> None:
    clock = {"type": "FlowherdCron", "cron": "30 2 * * *", "timezone": "Europe/Berlin"}
    # In Europe/Berlin the clock skips 02:30 on 29 March 2026.
    assert firings(clock) == ["2026-03-28T01:30:00", "2026-03-29T01:00:00", "2026-03-30T00:30:00"]
    bounded = {**clock, "start": "2026-03-29T01:00:00+00:00", "end": "2026-03-30T02:30:00+02:00"}
    assert firings(bounded) == ["2026-03-29T01:00:00", "2026-03-30T00:30:00"]


def test_flowherds_own_clock_fires_in_both_hours_of_the_same_name() -> None:
    clock = {"type": "FlowherdCron", "cron": "*/30 * * * *", "timezone": "Europe/Berlin"}
    half_hours = ["2026-10-25T00:30:00", "2026-10-25T01:00:00", "2026-10-25T01:30:00", "2026-10-25T02:00:00"]
    assert firings(clock, after="2026-10-25T00:00:00Z", count=4) == half_hours
