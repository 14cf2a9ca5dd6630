"""How a Prefect 3 run is asked to end: as its own worker asks it, without the worker's socket.

Prefect's engine distinguishes a termination that its supervisor wants from any other by an intent that is set before
the signal. With one, it unwinds the user's code and leaves the run's next state to the supervisor; without one, it
reports Crashed. SIGINT means a cancellation, SIGHUP every other end that flowherd wants; a SIGTERM comes from another
process, and is left to Prefect.
"""

import importlib
import os
import signal
from types import FrameType
from typing import Any, Optional

from flowherd_runner.kinds.prefect3 import prefect_compat

_INTENT = {signal.SIGINT: "cancel", signal.SIGHUP: "relinquish"}


class Termination:
    """The first request unwinds the run; later ones do nothing."""

    def __init__(self) -> None:
        self.intent: Optional[str] = None

    def install(self) -> None:
        """Handle both signals, in the main thread of this process only."""
        self._listener: Any = prefect_compat.control_listener()
        self._error: Any = importlib.import_module("prefect.exceptions").TerminationSignal
        prefect_compat.keep_wanted_ends_quiet(self.wanted)
        for number in _INTENT:
            signal.signal(number, self._handle)
        os.register_at_fork(after_in_child=self._release)

    def _release(self) -> None:
        """Restore the default actions in what the user's code forks: a signal there must not unwind into the engine.

        A copy of the engine would report Crashed, by force and also over an end that the flow itself has reached.
        """
        for number in (signal.SIGTERM, *_INTENT):
            handler = signal.getsignal(number)
            # Prefect's handler has no name that all versions share; one of the user's stays.
            if handler == self._handle or str(getattr(handler, "__module__", "")).startswith("prefect."):
                signal.signal(number, signal.SIG_DFL)

    def wanted(self) -> bool:
        """Whether flowherd has asked for the end."""
        return self.intent is not None

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        if self.intent is not None:
            return
        self.intent = _INTENT[signal.Signals(number)]
        if self._listener is not None:
            # Not by _set_intent: the interrupted code may hold its lock.
            self._listener._intent = self.intent
        raise self._error(signal=int(signal.SIGTERM))
