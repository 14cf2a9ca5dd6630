"""Signals of a service, in this process: those that ask it to go on, and those that end it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from flowherd.signals import REQUEST_SIGNALS, Waker, catching_stop_signals, hold_request_signals
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def restored_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in REQUEST_SIGNALS}
    for number in REQUEST_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Noted:
    """Notes which actions were carried out, and in which thread."""

    def __init__(self) -> None:
        self.numbers: list[signal.Signals] = []
        self.threads: set[str] = set()
        self.actions = {number: self._action(number) for number in REQUEST_SIGNALS}

    def _action(self, number: signal.Signals) -> Noting:
        return Noting(self, number)

    def wait_for(self, *numbers: signal.Signals) -> None:
        wait_until(lambda: set(self.numbers) == set(numbers), what=lambda: f"{numbers}; came: {self.numbers}")


class Noting:
    def __init__(self, noted: Noted, number: signal.Signals) -> None:
        self._noted, self._number = noted, number

    def __call__(self) -> None:
        self._noted.numbers.append(self._number)
        self._noted.threads.add(threading.current_thread().name)


def test_request_signals_are_carried_out_in_a_thread_of_their_own_and_stop_nothing() -> None:
    noted = Noted()
    with catching_stop_signals(Waker(), noted.actions) as stops:
        for number in REQUEST_SIGNALS:
            os.kill(os.getpid(), number)
        noted.wait_for(*REQUEST_SIGNALS)
        assert stops.count == 0
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(lambda: stops.last == signal.SIGTERM)
    assert noted.threads == {"signals"}
    assert [signal.getsignal(number) for number in REQUEST_SIGNALS] == [signal.SIG_DFL] * 3


def test_without_actions_a_hang_up_stops_as_before() -> None:
    with catching_stop_signals(Waker()) as stops:
        os.kill(os.getpid(), signal.SIGHUP)
        wait_until(lambda: stops.last == signal.SIGHUP)


def test_signals_that_came_too_early_are_carried_out_once_that_is_possible() -> None:
    hold_request_signals()
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGUSR1)
    noted = Noted()
    with catching_stop_signals(Waker(), noted.actions) as stops:
        noted.wait_for(signal.SIGHUP, signal.SIGUSR1)
        assert stops.count == 0


def test_a_programs_own_handler_of_a_user_signal_stays() -> None:
    own: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _frame: own.append(number))
    noted = Noted()
    with catching_stop_signals(Waker(), noted.actions):
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)
        noted.wait_for(signal.SIGUSR2)
    assert own == [signal.SIGUSR1]
