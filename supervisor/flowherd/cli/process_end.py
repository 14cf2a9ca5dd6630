"""The end of a command's process. Imports only what every interpreter has loaded."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import NoReturn


def end(code: int) -> NoReturn:
    """End this process with the exit code `code`, after its exit handlers, once all that it has printed is written.

    What is left out is that the interpreter takes itself apart, object by object: some 30 to 70 ms after a command that
    has talked to a server, and who waits for the command waits for that. Where there is more to do than that, as with
    threads that go on, or with output that cannot be written, the interpreter does it.
    """
    if not _has_other_threads():
        with contextlib.suppress(Exception):  # each was reported
            getattr(atexit, "_run_exitfuncs")()  # noqa: B009
        if _is_all_written():
            os._exit(code)
    sys.exit(code)


def _has_other_threads() -> bool:
    """Whether there are threads that the interpreter waits for."""
    threading = sys.modules.get("threading")
    if threading is None:
        return False
    return any(not one.daemon and one is not threading.main_thread() for one in threading.enumerate())


def _is_all_written() -> bool:
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except (OSError, ValueError):
            return False
    return True
