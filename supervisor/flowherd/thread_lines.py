"""What each thread of this process is doing, as lines of a log."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import FrameType

#: Number of calls that a line names, the innermost first.
_MOST_CALLS = 6


def thread_lines() -> Iterator[str]:
    """Yield one line for each thread: its name, and where it is in the code, the innermost call first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        yield f"thread {names.get(ident, ident)}: {' < '.join(_calls(frame))}"


def _calls(frame: FrameType | None) -> Iterator[str]:
    for _ in range(_MOST_CALLS):
        if frame is None:
            return
        code = frame.f_code
        yield f"{code.co_name} ({'/'.join(code.co_filename.split('/')[-2:])}:{frame.f_lineno})"
        frame = frame.f_back
