"""Whether anything may be claimed now, with every change logged once."""

from __future__ import annotations

import logging
from collections.abc import Callable

from flowherd.agent.health import ClaimPause


class ClaimGate:
    """Closed while one of `reasons` gives a reason; the first reason counts."""

    def __init__(self, log: logging.Logger, *reasons: Callable[[], ClaimPause | None]) -> None:
        self._log = log
        self._reasons = reasons
        self._logged: ClaimPause | None = None

    def pause(self) -> ClaimPause | None:
        """Return why nothing is to be claimed now, or None; from any thread."""
        return next((pause for reason in self._reasons if (pause := reason()) is not None), None)

    def is_closed(self) -> bool:
        """Return whether nothing is to be claimed now, and log it if that has changed; for the poll loop."""
        pause = self.pause()
        if pause is not None and (self._logged is None or self._logged.word != pause.word):
            self._log.warning("Claiming nothing: %s", pause.reason)
        elif pause is None and self._logged is not None:
            self._log.info("Claiming again")
        self._logged = pause
        return pause is not None
