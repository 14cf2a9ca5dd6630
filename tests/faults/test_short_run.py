"""The fault kit's random session in short; the long one is `python -m tests.faults --minutes 30`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from flowherd.host.isolation_trial import try_isolation
from flowherd_runner.contract.isolation import LEVELS, NONE
from tests.faults.backends import BackendUnderTest
from tests.faults.backends.embedded import Embedded, EmbeddedCrowd
from tests.faults.backends.prefect3 import Prefect3
from tests.faults.driver import perform
from tests.faults.plan import faults

#: Any would do; it is always the same, so a failure is due to the code.
_SEED = 20_13


@pytest.fixture
def levels(tmp_path: Path) -> Sequence[str]:
    """The levels of isolation that this host gives to this user."""
    trial = try_isolation(tmp_path)
    return [level for level in LEVELS if level == NONE or not trial.of(level, "host").lacks]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("minutes", [0.5, pytest.param(1.0, marks=pytest.mark.full)])
def test_random_deaths_break_no_promise_at_any_level_of_isolation(
    tmp_path: Path, levels: Sequence[str], minutes: float
) -> None:
    report = perform(tmp_path / "session", _SEED, minutes, levels=levels)
    assert report.violations == [], report.as_text()
    assert report.runs > 30 * minutes and report.kills > 20 * minutes, report.as_text()
    assert set(levels) <= report.levels.keys(), report.as_text()


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("backend", "minutes"), [(Embedded, 1.0), (EmbeddedCrowd, 1.5)])
def test_random_deaths_of_sealed_runs_alone_break_no_promise(
    tmp_path: Path, levels: Sequence[str], backend: type[BackendUnderTest], minutes: float
) -> None:
    if "sealed" not in levels:
        pytest.skip("this host does not give the level sealed to this user")
    report = perform(tmp_path / "session", _SEED, minutes, backend=backend, levels=["sealed"])
    assert report.violations == [], report.as_text()
    assert report.runs >= backend.rates.runs_at_a_time and report.kills > 20 * minutes, report.as_text()


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
