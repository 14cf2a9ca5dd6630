"""When schedules fire within a day, where most of them do, and the pictures of that."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from flowherd.web.flow_drawings import Duration, durations, lane
from flowherd_server.pages.firings import HOUR_US, Firings, firings_of_day, greatest_pile
from flowherd_server.pages.flow_facts import clock_change
from flowherd_server.store.microseconds import to_us

NOW = datetime(2026, 11, 27, 6, 30, tzinfo=timezone.utc)
NOW_US = to_us(NOW)


def cron(line: str, zone: str = "UTC") -> dict[str, object]:
    return {"clocks": [{"type": "FlowherdCron", "cron": line, "timezone": zone}]}


def test_a_schedule_has_its_times_of_a_day_and_one_that_fires_often_its_hours() -> None:
    day = firings_of_day(cron("0 */6 * * *"), NOW_US)
    assert [(at - NOW_US) / HOUR_US for at in day.times] == [5.5, 11.5, 17.5, 23.5]
    assert (day.count, day.next_us) == ("4 times in 24 hours", NOW_US + 5 * HOUR_US + HOUR_US // 2)
    often = firings_of_day(cron("*/5 8-17 * * *"), NOW_US)
    # From 06:30 on: the hour that ends at 07:30 is the first, and its last firing is at 17:55.
    assert often.hours == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert often.count == "more than 100 times in 24 hours"
    later = firings_of_day(cron("*/5 8-17 * * *"), NOW_US + 10 * HOUR_US)
    assert later.next_us == NOW_US + 10 * HOUR_US + 5 * 60_000_000


@pytest.mark.parametrize("schedule", [{"clocks": [{"type": "Own"}]}, {"clocks": None}, {}])
def test_a_schedule_that_cannot_be_followed_fires_never(schedule: dict[str, object]) -> None:
    assert firings_of_day(schedule, NOW_US) == Firings([])


def test_the_greatest_pile_is_the_first_minute_in_which_most_schedules_fire() -> None:
    lines = ("30 9 * * *", "*/30 * * * *", "30 * * * *", "30 10 * * *")
    days = [firings_of_day(cron(line), NOW_US) for line in lines]
    assert greatest_pile(days) == (NOW_US + 3 * HOUR_US, 3)
    assert greatest_pile([]) == (0, 0)


def test_lanes_and_plots_stay_within_their_frames() -> None:
    drawn = lane([-0.1, 0.5, 2.0], [], is_off=True)
    assert [f'x="{x}"' in drawn for x in ("0.0", "238.5", "477.0")] == [True] * 3
    assert 'x="20" y="4" width="40"' in lane([], [1, 2, 7], is_off=False)
    plot = durations([Duration(5.0, 0.0, "ok"), Duration(9.0, 7200.0, "bad")], 0.0, 10.0, "<b>", [(0.0, "<i>")], 60.0)
    assert ("<b>" in plot, "<i>" in plot, "2 h" in plot) == (False, False, True)


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("Europe/Berlin", "On 28 March 2027 at 02:00 the clock is put forward by 1 h."),
        ("America/New_York", "On 14 March 2027 at 02:00 the clock is put forward by 1 h."),
        ("Australia/Lord_Howe", "On 4 April 2027 at 02:00 the clock is put back by 30 m."),
        ("UTC", ""),
        ("No/Where", ""),
    ],
)
def test_the_next_change_of_the_clock_is_told(zone: str, said: str) -> None:
    assert clock_change(cron("30 2 * * *", zone), NOW) == said
