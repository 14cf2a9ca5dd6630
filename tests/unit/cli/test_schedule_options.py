"""The schedule that `flowherd register` makes of its options, and the options that it refuses."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.flows.schedule_options import chosen_schedule
from flowherd.client.flow_schedule import ChosenSchedule

NOW = datetime(2026, 3, 28, 12, tzinfo=timezone.utc)


def chosen(
    cron: str | None = None, *, every: str | None = None, zone: str | None = "Europe/Berlin", until: str | None = None
) -> ChosenSchedule:
    found = chosen_schedule(cron, every, zone, until, NOW)
    assert found is not None
    return found


def clock(schedule: ChosenSchedule, *, own_clocks: bool = True, **parameters: Any) -> dict[str, Any]:
    (found,) = schedule.document(parameters, own_clocks=own_clocks)["clocks"]
    return dict(found)


def test_a_cron_expression_becomes_flowherds_own_clock() -> None:
    schedule = chosen("@daily", until="2026-03-30")
    assert clock(schedule, n=0, m=1) == {
        "type": "FlowherdCron",
        "cron": "0 0 * * *",
        "timezone": "Europe/Berlin",
        "start": None,
        "end": "2026-03-30T21:59:59.999999+00:00",
        "parameter_defaults": {"n": 0},
        "labels": None,
    }
    assert schedule.in_words() == "daily at 00:00 (0 0 * * *), Europe/Berlin"
    assert [schedule.written(at) for at in schedule.next_times(NOW, 5)] == [
        "Sun 2026-03-29 00:00",
        "Mon 2026-03-30 00:00",
    ]


def test_another_server_gets_prefects_clock_in_the_same_zone() -> None:
    sent = clock(chosen("30 2 * * *", until="2026-05-01T12:00"), own_clocks=False)
    assert (sent["type"], sent["cron"], sent["day_or"]) == ("CronClock", "30 2 * * *", True)
    assert sent["start_date"] == {"dt": "2026-03-28T13:00:00", "tz": "Europe/Berlin"}
    assert sent["end_date"] == {"dt": "2026-05-01T10:00:00", "tz": "UTC"}
    assert clock(chosen("@daily", zone="UTC"), own_clocks=False)["start_date"] is None


def test_an_interval_counts_elapsed_time_from_its_registration() -> None:
    schedule = chosen(every="90m", until="2026-03-28T16:00Z")
    sent = clock(schedule)
    assert (sent["type"], sent["interval"]) == ("IntervalClock", 5_400_000_000)
    assert sent["start_date"] == {"dt": "2026-03-28T12:00:00", "tz": "UTC"}
    assert [at.isoformat() for at in schedule.next_times(NOW, 3)] == [
        "2026-03-28T14:30:00+01:00",
        "2026-03-28T16:00:00+01:00",
    ]


def test_the_times_of_an_interval_are_shown_in_this_hosts_zone_whichever_was_named() -> None:
    """The words name no zone: every 90 minutes."""
    (at,) = (schedule := chosen(every="90m")).next_times(NOW, 1)
    assert schedule.written(at) == at.astimezone().strftime("%a %Y-%m-%d %H:%M:%S")


def test_the_zone_is_that_of_the_host_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert (chosen("@daily", zone=None).zone, chosen("@daily", zone=None).zone_is_guess) == ("Asia/Tokyo", False)
    monkeypatch.setenv("TZ", "JST-9")
    assert (chosen("@daily", zone=None).zone, chosen("@daily", zone=None).zone_is_guess) == ("UTC", True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cron": "@daily", "every": "1h"}, "exclude"),
        ({"until": "2030-01-01"}, "--timezone is about a schedule"),
        ({"until": "2030-01-01", "zone": None}, "--until is about a schedule"),
        ({"cron": "every day"}, "--cron 'every day': it has 2 fields"),
        ({"cron": "@every 5m"}, "--interval"),
        ({"cron": "@daily", "zone": "Mars"}, "--timezone.*'Mars'; write an IANA name"),
        ({"cron": "@daily", "zone": "europe/berlin"}, "did you mean Europe/Berlin"),
        ({"cron": "@daily", "zone": "new york"}, "did you mean America/New_York"),
        ({"cron": "@daily", "until": "tomorrow"}, "--until 'tomorrow'"),
        ({"cron": "@daily", "until": "2026-03-28"}, "over before the first run"),
        ({"every": "0.1s"}, "one second"),
    ],
)
def test_options_that_make_no_schedule_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(CommandError, match=words) as refused:
        chosen(**given)
    assert refused.value.exit_code == exit_codes.USAGE
