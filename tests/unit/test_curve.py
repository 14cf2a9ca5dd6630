"""The curve of a run: bounded, with the highest memory, and a true share of a processor however it is thinned."""

from __future__ import annotations

import pytest

from flowherd.host.curve import Curve
from flowherd.story.account import MOST_SAMPLES

START_S = 1_900_000_000.0


def curve_of(seconds: int, share: float = 0.5) -> Curve:
    curve = Curve(1.0)
    for second in range(seconds):
        curve.add(START_S + second, 100 + second, share * second)
    return curve


@pytest.mark.parametrize("seconds", [1, 10, MOST_SAMPLES, 10_000])
def test_a_curve_is_bounded_and_spread_over_the_whole_life(seconds: int) -> None:
    samples = curve_of(seconds).samples()
    assert len(samples) < MOST_SAMPLES
    assert samples[0].at - START_S <= seconds / 50
    assert samples[-1].at - START_S >= 0.95 * (seconds - 1)
    assert len(samples) >= min(seconds, MOST_SAMPLES // 2 - 1)


def test_the_share_of_a_processor_is_true_after_thinning_and_unknown_at_the_start() -> None:
    assert [one.cpu_share for one in curve_of(10).samples()] == [None] + [0.5] * 9
    assert {one.cpu_share for one in curve_of(10_000).samples()} == {0.5}


def test_what_is_looked_at_more_often_keeps_its_highest_memory() -> None:
    curve = Curve(1.0)
    for tenth in range(100):
        curve.add(START_S + tenth / 10, 999 if tenth == 55 else 1, 0.0)
    assert max(one.memory_bytes or 0 for one in curve.samples()) == 999
    assert len(curve.samples()) <= 11


def test_a_curve_goes_on_after_what_an_earlier_agent_kept() -> None:
    kept = curve_of(1000).samples()
    curve = Curve(1.0)
    curve.restore(kept)
    assert curve.samples() == kept
    curve.add(START_S + 2000, 7, 9999.0)
    assert curve.samples()[-1] == (START_S + 2000, 7, None)
    for second in range(2001, 20_000):
        curve.add(START_S + second, 7, 9999.0)
    assert len(curve.samples()) < MOST_SAMPLES
    Curve(1.0).restore(())
