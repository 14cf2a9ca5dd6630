"""Opens /dev/null in place of standard streams that are closed.

A process may be started with descriptors 0, 1 or 2 closed (daemon(3), `2>&-`). The next file that it opens then gets
that number, and everything that writes to "standard error" writes into that file: a database, a lock, a socket.
"""

from __future__ import annotations

import os
import sys

_STREAMS = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))


def open_missing_streams() -> None:
    """Open /dev/null as each of the descriptors 0, 1 and 2 that is closed. Call it before anything opens a file."""
    for fd, name, mode in _STREAMS:
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number (open(2)), because 0 to fd - 1 are open
            assert opened == fd, f"descriptor {fd} was free and is not used"
            os.set_inheritable(fd, True)
        if getattr(sys, name) is None:  # Python's own name for a stream that was closed at its start
            stream = open(fd, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
