"""Waiting for a condition with a deadline; no test waits otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T | None],
    *,
    timeout_s: float = 20.0,
    what: str | Callable[[], str] = "the condition",
    every_s: float = 0.01,
) -> T:
    """Call `condition` every few milliseconds until its result is true, and return that.

    Raises AssertionError after `timeout_s`. Give a longer `every_s` where many threads ask a slow server.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {timeout_s} s: {what() if callable(what) else what}")
        time.sleep(every_s)
