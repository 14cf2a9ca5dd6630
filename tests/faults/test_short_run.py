"""The fault kit's random session in short; the long one is `python -m tests.faults --minutes 30`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.driver import perform
from tests.faults.plan import faults
from tests.faults.sides.prefect3 import Prefect3

#: Any will do; this one is always the same, so that a failure is the code's.
_SEED = 20_13
_MINUTES = 1.0
#: Its server, agents and runs start slowly, and it takes its time to come to rest.
_MINUTES_OF_PREFECT = 0.7


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_minute_of_random_deaths_breaks_no_promise(tmp_path: Path) -> None:
    report = perform(tmp_path / "session", _SEED, _MINUTES)
    assert report.violations == [], report.as_text()
    assert report.runs > 30 and report.kills > 20, report.as_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_random_deaths_at_a_work_pool_of_prefect_3_break_no_promise(tmp_path: Path) -> None:
    report = perform(tmp_path / "session", _SEED, _MINUTES_OF_PREFECT, side=Prefect3)
    assert report.violations == [], report.as_text()
    assert report.runs > 5 and report.kills > 5, report.as_text()


def test_a_seed_is_a_plan() -> None:
    assert faults(5, 2) == faults(5, 2) != faults(6, 2)
