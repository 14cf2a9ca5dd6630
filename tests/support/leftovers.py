"""Proof that a test left no process behind: every child inherits a variable, and at the end nobody carries it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import wait_until

VARIABLE = "FLOWHERD_TEST_MARK"


def carriers(mark: str, variable: str = VARIABLE) -> list[str]:
    """The living processes other than this one whose environment carries `mark`, as "pid command line"."""
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


@contextmanager
def none_left() -> Iterator[None]:
    """Whatever is started inside is gone at the end, within a few seconds; else the test fails and names it."""
    before = os.environ.get(VARIABLE)
    mark = uuid.uuid4().hex
    os.environ[VARIABLE] = mark
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
    wait_until(lambda: not carriers(mark), timeout_s=10, what=lambda: f"processes left: {carriers(mark)}")
