"""What a run has used lately, computed from looks at its processes."""

from __future__ import annotations

import time

import pytest

from flowherd.host.processes.process_tree import ProcessTree, Usage
from flowherd.host.run_meter import RunMeter

BEGIN = 1_000_000.0


class Clock:
    """Both clocks, which a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(time, "time", lambda: BEGIN + self.now_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def used(meter: RunMeter, clock: Clock, seconds: float, share: float) -> None:
    """Look twice a second at a run that uses this share of a processor."""
    tree = ProcessTree(usage=Usage())
    begin_s, cpu_s = clock.now_s, meter._newest[1] if meter._newest else 0.0
    while clock.now_s < begin_s + seconds:
        tree = meter.observe(tree, ProcessTree(usage=Usage(cpu_time_s=cpu_s + share * (clock.now_s - begin_s))))
        clock.now_s += 0.5


def test_the_share_is_that_of_the_last_seconds(clock: Clock) -> None:
    meter = RunMeter()
    assert meter.cpu_share() is None
    used(meter, clock, 20, 2.0)
    assert meter.cpu_share() == pytest.approx(2.0, rel=0.3)
    used(meter, clock, 20, 0.1)
    assert meter.cpu_share() == pytest.approx(0.1, rel=0.3)


def test_a_run_that_nobody_looks_at_because_it_sleeps_uses_nothing(clock: Clock) -> None:
    meter = RunMeter()
    used(meter, clock, 20, 1.0)
    clock.now_s += 600
    share = meter.cpu_share()
    assert share is not None and share < 0.01


def test_the_peak_stays() -> None:
    meter, tree = RunMeter(), ProcessTree(usage=Usage())
    for memory in (5, 9, 3):
        tree = meter.observe(tree, ProcessTree(usage=Usage(memory_bytes=memory)))
    assert (tree.usage.memory_bytes, tree.usage.peak_memory_bytes) == (3, 9)


@pytest.mark.parametrize(("share", "is_idle"), [(0.0, True), (0.009, True), (0.03, False), (1.0, False)])
def test_idle_is_less_than_a_hundredth_of_a_processor(clock: Clock, share: float, is_idle: bool) -> None:
    meter = RunMeter()
    used(meter, clock, 1200, share)
    idle_s = clock.now_s - (meter.idle_since - BEGIN)
    assert idle_s == pytest.approx(1200, abs=2) if is_idle else idle_s < 60


def test_a_burst_ends_idleness_and_a_tick_now_and_then_does_not(clock: Clock) -> None:
    meter = RunMeter()
    used(meter, clock, 600, 0.005)
    used(meter, clock, 1.5, 1.0)
    used(meter, clock, 300, 0.005)
    assert clock.now_s - (meter.idle_since - BEGIN) == pytest.approx(300, abs=3)


def test_a_run_that_was_adopted_is_not_taken_for_busy_because_of_what_it_used_before(clock: Clock) -> None:
    meter = RunMeter()
    meter.observe(ProcessTree(usage=Usage()), ProcessTree(usage=Usage(cpu_time_s=5000.0)))
    clock.now_s += 5
    meter.observe(ProcessTree(usage=Usage()), ProcessTree(usage=Usage(cpu_time_s=5000.0)))
    assert meter.idle_since == BEGIN
    assert meter.cpu_share() == 0.0
