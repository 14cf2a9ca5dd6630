"""Unix sockets by paths of any length: a socket's address holds 107 bytes at most (unix(7))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def short_path(directory: Path, name: str) -> Iterator[str]:
    """Give a path of the socket `name` in `directory` that is short enough for bind(2) and connect(2).

    Raises OSError if there is no such directory, and so does its use if /proc is not mounted.
    """
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
