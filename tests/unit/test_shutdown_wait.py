"""The waits of an agent that stops: what each further stop signal ends."""

from __future__ import annotations

import signal

from flowherd.agent.shutdown import ShutdownWait
from flowherd.signals import StopSignals, Waker


def waits(signals_so_far: int) -> tuple[ShutdownWait, StopSignals]:
    waker = Waker()
    signals = StopSignals(waker)
    for _ in range(signals_so_far):
        signals.handle(signal.SIGTERM, None)
    return ShutdownWait(signals, waker, lambda: None), signals


def test_two_signals_at_once_end_the_wait_for_runs_though_a_request_was_under_way() -> None:
    wait, _ = waits(2)
    assert not wait.flush(lambda: False)
    assert not wait.until(lambda: False, 60.0)


def test_each_further_signal_ends_one_wait_for_runs() -> None:
    wait, signals = waits(1)
    assert wait.until(lambda: True, 60.0)
    assert not wait.until(lambda: False, 0.0)  # no signal, but its time is over
    signals.handle(signal.SIGINT, None)
    assert not wait.until(lambda: False, 60.0)
    assert not wait.until(lambda: False, 0.0)
    signals.handle(signal.SIGINT, None)
    assert not wait.until(lambda: False, 60.0)
