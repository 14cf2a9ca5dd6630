"""Regular work on the state directory: makes removed files again, sweeps old run directories, looks at survivors."""

from __future__ import annotations

from loguru import logger

from flowherd.agent.health import ClaimPause
from flowherd.errors import ConfigurationError, StateDirectoryBusy
from flowherd.host.retention import Retention
from flowherd.host.store.state_directory import StateDirectory
from flowherd.host.store.survivors import SurvivorList
from flowherd.recurring_error import RecurringError


class StateUpkeep:
    """The regular work on one open state directory; for one thread, except `lost`."""

    def __init__(self, state: StateDirectory, retention: Retention) -> None:
        self._state = state
        self._retention = retention
        #: Processes that could not be ended.
        self.survivors = SurvivorList(state.path)
        self._working = RecurringError("keep the state directory in order", logger)
        #: Why nothing may be claimed: the state directory was removed, and another agent uses its place.
        self.lost: ClaimPause | None = None

    def tick(self) -> None:
        """Do what is due. A failure is logged and tried again at the next tick."""
        try:
            self._repair()
            self._state.blanks.refill()
            if self._retention.sweep_if_due():
                self.survivors.refresh()
        except OSError as error:
            self._working.failed(error)
        else:
            self._working.recovered()

    def _repair(self) -> None:
        try:
            removed = self._state.repair()
        except (StateDirectoryBusy, ConfigurationError) as error:
            text = f"its state directory was removed, and its place is taken: {error}"
            self.lost = ClaimPause(word="state directory lost", reason=text)
            return
        self.lost = None
        if removed:
            text = "Removed from {} by another program, made again: {}; keep cleaners of temporary files out of there"
            logger.warning(text, self._state.path, ", ".join(removed), action="repair")
