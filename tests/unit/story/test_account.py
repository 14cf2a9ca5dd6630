"""The account of a run's end: what is sent is read again, it has a size, and damage is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from flowherd.story.account import (
    MOST_BYTES,
    MOST_SAMPLES,
    Account,
    RunEvent,
    account_as_json,
    read_account,
    thinned,
)
from flowherd.story.live import ProcessFigures, Sample

START_S = 1_900_000_000.0
FULL = Account(
    evidence="wait status: killed by SIGKILL (9)",
    exit_code=0,
    signal=9,
    cpu_time_s=1900.21,
    peak_memory_bytes=2**31,
    memory_limit_bytes=2**30,
    leftovers=("zstd (30467)",),
    leftovers_count=3,
    survivors=("sudo (4)",),
    events=(RunEvent(at_s=START_S, what="started", detail="runner 1, flow process 2"),),
    samples=(
        Sample(START_S, 2**20, None),
        Sample(START_S + 2, 2**21, 1.5),
    ),
    processes=(ProcessFigures(pid=2, parent=1, command="sh -c x", cpu_time_s=4.0, memory_bytes=2**20),),
    processes_at_s=START_S,
)


def size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def test_what_is_sent_is_read_again() -> None:
    assert read_account(json.loads(json.dumps(account_as_json(FULL)))) == FULL
    assert account_as_json(Account()) == {}
    assert read_account({}) == Account()


def test_a_long_run_with_long_names_fits_and_keeps_first_and_last_sample() -> None:
    samples = tuple(Sample(START_S + n, n << 30, float(n)) for n in range(5000))
    wide = "日本" * 500
    whole = Account(
        evidence=wide,
        leftovers=(wide,) * 60,
        survivors=(wide,) * 60,
        events=tuple(RunEvent(at_s=START_S, what=wide, detail=wide) for _ in range(100)),
        samples=samples,
        processes=tuple(
            ProcessFigures(pid=n, parent=1, command=wide, cpu_time_s=1e9, memory_bytes=2**50) for n in range(99)
        ),
    )
    for account in (whole, replace(whole, events=(), processes=(), leftovers=(), survivors=())):
        value = account_as_json(account)
        assert size(value) <= MOST_BYTES
        read = read_account(value)
        assert read is not None and read.evidence
    assert read is not None and len(read.samples) >= MOST_SAMPLES // 2
    assert (read.samples[0].memory_bytes, read.samples[-1].memory_bytes) == (0, 4999 << 30)


def test_a_curve_alone_keeps_all_its_samples() -> None:
    samples = tuple(Sample(START_S + 60.0 * n, n << 24, 0.99) for n in range(MOST_SAMPLES))
    read = read_account(account_as_json(Account(samples=samples)))
    assert read is not None and read.samples == samples


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"samples": {"start": "x", "rows": [[0, 1, 2]]}},
        {"samples": {"start": 1e300, "rows": [[0, 1, 2]]}, "events": [[1e300, "started", ""], "x", [1]]},
        {"samples": {"start": 5, "rows": [["x", 1, 2], [0, 1], None, [1e300, 1, 2], [-9, 1, 2]]}},
        {"evidence": 5, "exit_code": True, "cpu_time_s": float("nan"), "leftovers": [1, None], "processes": [[1, 2]]},
        {"events": {"a": 1}, "processes": "x", "leftovers": "name", "peak_memory_bytes": -1},
    ],
)
def test_damage_is_left_out(value: Any) -> None:
    read = read_account(value)
    assert read in (None, Account())


def test_thinning_spreads_what_is_kept_evenly() -> None:
    assert thinned(range(100), 3) == (0, 50, 99)
    assert thinned(range(3), 3) == (0, 1, 2)
    assert (thinned(range(9), 1), thinned(range(9), 0)) == ((8,), ())


def test_an_event_keeps_its_microsecond_so_that_it_stands_before_the_state_of_the_same_time() -> None:
    at = datetime(2030, 1, 31, 12, 0, 0, 123_457, tzinfo=timezone.utc)
    sent = account_as_json(Account(events=(RunEvent(at_s=at.timestamp(), what="process ended"),)))
    read = read_account(json.loads(json.dumps(sent)))
    assert read is not None and read.events[0].at == at
