"""How a Prefect run is asked to end: by SIGINT, as Prefect's engine does itself when it sees that a run is cancelled.

The interruption unwinds the user's task. Then the engine asks the backend for the reason, and reports Cancelled when
the run is Cancelling there. So the user's `finally:` and state handlers run.
"""

import multiprocessing
import os
import signal
import time
from types import FrameType
from typing import Optional

#: Time for idle workers of a pool that was shut down, which end by themselves, seconds.
_SETTLE_S = 0.3


class Interruption:
    """The first SIGINT interrupts, later ones do nothing: engine and agent may both send one."""

    def __init__(self) -> None:
        self.happened = False

    def install(self) -> None:
        """Handle SIGINT; call this in the main thread."""
        signal.signal(signal.SIGINT, self._handle)

    def pass_on(self) -> None:
        """Interrupt the processes of pools that still work on tasks: the engine would wait until they have ended."""
        if not self.happened:
            return
        deadline_s = time.monotonic() + _SETTLE_S
        while multiprocessing.active_children() and time.monotonic() < deadline_s:
            time.sleep(0.02)
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, signal.SIGINT)

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        if not self.happened:
            self.happened = True
            raise KeyboardInterrupt
