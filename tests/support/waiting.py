"""Waiting for a condition with a deadline; no test waits otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Longest pause between two looks, seconds, unless `every_s` is longer.
_LONGEST_PAUSE_S = 0.5


def wait_until(
    condition: Callable[[], T | None],
    *,
    timeout_s: float = 20.0,
    what: str | Callable[[], str] = "the condition",
    every_s: float = 0.01,
) -> T:
    """Call `condition` until its result is true, and return that.

    The pauses are `every_s`, and twice as long as a call takes: a condition that starts a process or asks a busy server
    must not keep what it waits for from its work. Raises AssertionError after `timeout_s`.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        called_s = time.monotonic()
        answer = condition()
        if answer:
            return answer
        now_s = time.monotonic()
        if now_s > deadline_s:
            raise AssertionError(f"not within {timeout_s} s: {what() if callable(what) else what}")
        time.sleep(max(every_s, min(2 * (now_s - called_s), _LONGEST_PAUSE_S)))
