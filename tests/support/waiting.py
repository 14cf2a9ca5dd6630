"""Waiting for a condition with a deadline, the only way in which these tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    *,
    timeout_s: float = 20.0,
    what: str | Callable[[], str] = "the condition",
    every_s: float = 0.01,
) -> T:
    """The first true answer of `condition`, asked every few milliseconds; fails the test after `timeout_s`.

    Who asks a server that is slow by itself, from many threads, says `every_s`.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {timeout_s} s: {what() if callable(what) else what}")
        time.sleep(every_s)
