"""Cron expressions: what they mean, how they read in words, what is refused, and whose time zone this host has."""

from __future__ import annotations

import shutil
from datetime import date, datetime, timezone
from itertools import islice
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo

import pytest

from flowherd.schedules.cron import ALIASES, read_cron
from flowherd.schedules.cron_fields import ScheduleError
from flowherd.schedules.cron_times import cron_times
from flowherd.schedules.host_zone import host_zone_name
from flowherd.schedules.in_words import cron_in_words, schedule_in_words

BERLIN = ZoneInfo("Europe/Berlin")


def local_times(text: str, after: str, count: int) -> list[str]:
    begin = datetime.fromisoformat(after).replace(tzinfo=BERLIN)
    return [f"{at.astimezone(BERLIN):%d %H:%M %Z}" for at in islice(cron_times(read_cron(text), BERLIN, begin), count)]


def test_a_fixed_hour_that_is_skipped_fires_once_just_after() -> None:
    assert local_times("0,30 2 * * *", "2026-03-28T12:00", 3) == ["29 03:00 CEST", "30 02:00 CEST", "30 02:30 CEST"]


def test_a_fixed_hour_that_comes_twice_fires_once() -> None:
    assert local_times("30 2 * * *", "2026-10-24T12:00", 2) == ["25 02:30 CEST", "26 02:30 CET"]


def test_hours_with_a_step_go_by_elapsed_time() -> None:
    spring = ["29 01:00 CET", "29 01:30 CET", "29 03:00 CEST", "29 03:30 CEST"]
    assert local_times("*/30 * * * *", "2026-03-29T00:30", 4) == spring
    autumn = ["25 02:00 CEST", "25 02:30 CEST", "25 02:00 CET", "25 02:30 CET"]
    assert local_times("*/30 */2 * * *", "2026-10-25T00:30", 4) == autumn


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("40 * * * *", "every hour at minute 40"),
        ("0 */2 * * *", "every 2 hours"),
        ("@daily", "daily at 00:00"),
        ("0 6 * * 1-5", "weekdays at 06:00"),
        ("0 8,12 * * sat,sun", "weekends at 08:00 and 12:00"),
        ("*/15 8-18 * * mon", "every 15 minutes from 08:00 to 18:45, Mondays"),
        ("0 4 1,8-14 * *", "on days 1 and 8 to 14 of the month at 04:00"),
        ("0 0 24 12 *", "on 24 December at 00:00"),
        ("0 22 L * *", "on the last day of the month at 22:00"),
        ("0 9 * * fri#2", "on the second Friday of the month at 09:00"),
        ("0 9 1 * mon", "on day 1 of the month and on Mondays at 09:00"),
        ("1,2 3,4,8 * * *", "1,2 3,4,8 * * *"),
        ("0 0 * * 5 30", "0 0 * * 5 30"),
    ],
)
def test_an_expression_reads_in_words(text: str, words: str) -> None:
    assert cron_in_words(text) == words


def test_a_schedule_of_prefect_reads_in_words_too() -> None:
    clocks = [{"type": "IntervalClock", "interval": 5_400_000_000}, {"type": "prefect.CronClock", "cron": "@hourly"}]
    assert schedule_in_words({"clocks": clocks, "filters": [{}]}) == "every 90 minutes; every hour, with filters"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0 0 30 2 *", "never fires: there is no day 30 in month 2"),
        ("0 0 31 4,6 *", "no day 31 in month 4 or 6"),
        ("0 30 2 * * *", "six fields.*minute, hour.*leave the sixth out"),
        ("30 2 * *", "4 fields"),
        ("", "five fields"),
        ("@reboot", "@reboot is not a time"),
        ("@every 5m", "interval"),
        ("@noon", "there is no @noon"),
        ("*/90 * * * *", "longer than an hour.*90m"),
        ("*/0 * * * *", "from 1 to 60"),
        ("61 * * * *", "'61' is not a minute"),
        ("* 24 * * *", "'24' is not an hour"),
        ("* * 0 * *", "day of the month"),
        ("* * * 13 *", "month"),
        ("* * * * 8", "0 to 7"),
        ("0 0 ? * *", r"write `\*`"),
        ("H 2 * * *", "hash"),
        ("0~30 2 * * *", "random"),
        ("0 0 15W * *", "working day"),
        ("*-5 * * * *", "not a minute"),
    ],
)
def test_an_expression_that_cannot_be_followed_is_refused_with_what_to_do(text: str, why: str) -> None:
    with pytest.raises(ScheduleError, match=f"(?s){why}"):
        read_cron(text)


def test_ranges_go_over_the_end_and_7_is_sunday() -> None:
    assert read_cron("0 22-1 * * 5-7").hours == (0, 1, 22, 23)
    assert read_cron("0 0 * * fri-mon").weekdays == {5, 6, 0, 1}
    assert read_cron("0 0 * * 5-7/2").weekdays == {5, 0}
    assert read_cron("10/20 * * * *").minutes == (10, 30, 50)


def test_either_field_of_days_is_enough_unless_one_begins_with_a_star() -> None:
    days = [day.day for day in islice(read_cron("0 0 13 * fri").dates(date(2026, 11, 1)), 4)]
    assert days == [6, 13, 20, 27]
    days = [day.day for day in islice(read_cron("0 0 */3 * fri").dates(date(2026, 11, 1)), 2)]
    assert days == [13, 4]  # the 13th is a Friday, and so is 4 December


def test_a_rare_date_is_found() -> None:
    leap_friday = islice(read_cron("0 0 29 2 *").dates(date(2096, 3, 1)), 1)
    assert list(leap_friday) == [date(2104, 2, 29)]


def test_every_alias_is_an_expression() -> None:
    assert [read_cron(alias).text for alias in ALIASES] == list(ALIASES.values())


def test_times_end_with_the_calendar() -> None:
    last = datetime(9999, 12, 30, 23, 30, tzinfo=timezone.utc)
    assert len(list(cron_times(read_cron("*/10 * * * *"), timezone.utc, last))) == 2


def zone_file(name: str) -> Path:
    return next(path for path in (Path(place) / name for place in TZPATH) if path.exists())


def test_the_hosts_zone_is_that_of_tz_or_of_localtime_or_of_etc_timezone(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    assert host_zone_name({}, tmp_path) is None
    (etc / "timezone").write_text("America/New_York\n")
    assert host_zone_name({}, tmp_path) == "America/New_York"
    (etc / "localtime").symlink_to(zone_file("Europe/Berlin"))
    assert host_zone_name({}, tmp_path) == "Europe/Berlin"
    assert host_zone_name({"TZ": ":Asia/Tokyo"}, tmp_path) == "Asia/Tokyo"
    assert host_zone_name({"TZ": str(zone_file("Asia/Tokyo"))}, tmp_path) == "Asia/Tokyo"
    assert host_zone_name({"TZ": ":/etc/localtime"}, tmp_path) == "Europe/Berlin"
    assert host_zone_name({"TZ": ""}, tmp_path) == "UTC"
    assert host_zone_name({"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}, tmp_path) is None


def test_a_copied_localtime_has_the_name_of_etc_timezone_only_if_both_agree(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    shutil.copyfile(zone_file("Europe/Berlin"), etc / "localtime")
    (etc / "timezone").write_text("Europe/Berlin\n")
    assert host_zone_name({}, tmp_path) == "Europe/Berlin"
    (etc / "timezone").write_text("America/New_York\n")
    assert host_zone_name({}, tmp_path) is None
