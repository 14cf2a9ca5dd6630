"""Where an agent's control socket is; used by the agent and by the commands that talk to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOCKET_FILE = "control.sock"


@contextmanager
def short_path(state_dir: Path) -> Iterator[str]:
    """Give the socket's path in at most 107 bytes, the longest that a socket address can hold (unix(7)).

    Raises OSError when there is no such directory.
    """
    fd = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{SOCKET_FILE}"
    finally:
        os.close(fd)
