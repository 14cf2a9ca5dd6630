"""The fault kit's random session in short; the long one is `python -m tests.faults --minutes 30`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.backends.prefect3 import Prefect3
from tests.faults.driver import perform
from tests.faults.plan import faults

#: Any would do; it is always the same, so a failure is due to the code.
_SEED = 20_13


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("minutes", [0.5, pytest.param(1.0, marks=pytest.mark.full)])
def test_random_deaths_break_no_promise(tmp_path: Path, minutes: float) -> None:
    report = perform(tmp_path / "session", _SEED, minutes)
    assert report.violations == [], report.as_text()
    assert report.runs > 30 * minutes and report.kills > 20 * minutes, report.as_text()


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.timeout(300)
def test_random_deaths_at_a_work_pool_of_prefect_3_break_no_promise(tmp_path: Path) -> None:
    """In the usual run, single deaths stand for it: its server, agents and runs need seconds to start."""
    report = perform(tmp_path / "session", _SEED, 0.7, backend=Prefect3)
    assert report.violations == [], report.as_text()
    assert report.runs > 5 and report.kills > 5, report.as_text()


def test_a_seed_is_a_plan() -> None:
    assert faults(5, 2) == faults(5, 2) != faults(6, 2)
