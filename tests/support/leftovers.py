"""Proof that no process outlives a test: children inherit a variable, and at the end no process may carry it."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "FLOWHERD_TEST_MARK"

#: How long processes may take to end after the test, seconds.
_TIMEOUT_S = 10.0


def carriers(mark: str, variable: str = VARIABLE) -> list[str]:
    """Return the live processes other than this one whose environment carries `mark`, as "pid command line"."""
    wanted = f"{variable}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(f"{entry.name} {command}")
        except OSError:
            continue
    return found


def kill_carriers(mark: str) -> None:
    """Kill every process that carries `mark`, and those that appear meanwhile."""
    deadline_s = time.monotonic() + _TIMEOUT_S
    while (left := carriers(mark)) and time.monotonic() < deadline_s:
        for line in left:
            try:
                os.kill(int(line.split()[0]), signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def current_mark() -> dict[str, str]:
    """Return the variable that children inherit now.

    A server that a fixture shares among tests keeps it for its restarts: they belong to the fixture, not to the test.
    """
    return {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {}


@contextmanager
def none_left() -> Iterator[None]:
    """Check that every process started inside ends within a few seconds of the block.

    Raises AssertionError with the command lines of those that are left, after killing them: a failed test must not
    disturb the ones after it.
    """
    before = os.environ.get(VARIABLE)
    mark = uuid.uuid4().hex
    os.environ[VARIABLE] = mark
    try:
        yield
    except BaseException:
        kill_carriers(mark)
        raise
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
    deadline_s = time.monotonic() + _TIMEOUT_S
    while (left := carriers(mark)) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    if left:
        kill_carriers(mark)
        raise AssertionError(f"processes left: {left}")
