"""Removes the directories of ended runs after the retention time, and reports those that cannot be removed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from loguru import logger

from flowherd.errors import RunDirectoryDamaged
from flowherd.host.limits import mebibytes
from flowherd.host.processes.flock import runners_within
from flowherd.host.store.remove_tree import Remains
from flowherd.host.store.run_directory import RunDirectory
from flowherd.host.store.state_directory import StateDirectory
from flowherd_runner.contract import files

#: How long an ended run's directory is kept if its log is nowhere else, seconds.
_KEEP_WITHOUT_CLOUD_LOGS_S = 7 * 86400.0
#: Pause between two sweeps, seconds.
_SWEEP_INTERVAL_S = 600.0


def retention_s(keep_s: float | None, *, send_logs: bool) -> float:
    """Return how long directories of ended runs are kept, seconds. `keep_s` is the setting runs.keep."""
    if keep_s is not None:
        return keep_s
    return 0.0 if send_logs else _KEEP_WITHOUT_CLOUD_LOGS_S


class Retention:
    """The retention of the run directories of one state directory.

    `keep_s` is how long a directory is kept after its run's end, seconds, `keep_unsent_s` how long that of a run whose
    log is not sent; None for the same. `in_use` says whether this agent has the run.
    """

    def __init__(
        self,
        state: StateDirectory,
        keep_s: float,
        in_use: Callable[[str], bool],
        *,
        keep_unsent_s: float | None = None,
    ) -> None:
        self._state = state
        self._keep_s = keep_s
        self._keep_unsent_s = keep_s if keep_unsent_s is None else keep_unsent_s
        self._in_use = in_use
        self._next_sweep_s = 0.0
        #: Directories that could not be removed and were reported, by flow run id.
        self._reported: set[str] = set()
        self._lock = threading.Lock()

    @classmethod
    def of(
        cls, state: StateDirectory, keep_s: float | None, in_use: Callable[[str], bool], *, send_logs: bool
    ) -> Retention:
        """Return the retention by the setting runs.keep, for an agent that sends its runs' logs or does not."""
        kept_s, unsent_s = (retention_s(keep_s, send_logs=sent) for sent in (send_logs, False))
        return cls(state, kept_s, in_use, keep_unsent_s=unsent_s)

    def use(self, keep_s: float | None, *, send_logs: bool) -> None:
        """Use another value of runs.keep from now on, also for directories that are there already."""
        self._keep_s, self._keep_unsent_s = (retention_s(keep_s, send_logs=sent) for sent in (send_logs, False))
        self._next_sweep_s = 0.0

    def delivered(self, directory: RunDirectory, *, sent_log: bool = True) -> bool:
        """Remove the directory of a run whose end the backend knows, unless it is to be kept.

        Return False if it could not be removed.
        """
        if self.keeps(sent_log=sent_log):
            directory.give_back_space()
            return True
        remains = directory.remove()
        self._report(directory, remains)
        return remains is None

    def keeps(self, *, sent_log: bool) -> bool:
        """Return whether directories of such runs are kept for a time."""
        return (self._keep_s if sent_log else self._keep_unsent_s) != 0

    def sweep_if_due(self) -> bool:
        """Sweep, if that is due. Return whether it was."""
        if time.monotonic() < self._next_sweep_s:
            return False
        self._next_sweep_s = time.monotonic() + _SWEEP_INTERVAL_S
        self.sweep()
        return True

    def sweep(self) -> None:
        """Remove the directories of runs that ended long enough ago and whose end the backend knows.

        Tries again to remove what could not be removed. Damaged directories are left for a person to look at.
        """
        for directory in self._state.found_runs():
            if self._in_use(directory.flow_run_id):
                continue
            try:
                is_over = directory.is_abandoned() or self._is_old(directory)
            except RunDirectoryDamaged as error:
                logger.bind(run_id=directory.flow_run_id).warning("Keeping a damaged run directory: {}", error)
                continue
            if is_over:
                self.remove(directory)
            else:
                self._remove_private(directory)

    def remove(self, directory: RunDirectory) -> bool:
        """Remove the directory unless a runner or a new start of the flow run has it. Return whether it is gone."""
        lock_fd = directory.try_lock()
        if lock_fd is None:
            return False
        try:
            if not directory.had(files.EXIT_FILE) and runners_within(directory.path):
                return False  # its lock file was removed, and the runner lives
            remains = directory.remove()
        finally:
            os.close(lock_fd)
        self._report(directory, remains)
        return remains is None

    def _remove_private(self, directory: RunDirectory) -> None:
        """Remove the /tmp of a kept run, which an agent that was killed just after the run's end had no time for."""
        lock_fd = directory.try_lock() if directory.has_private() else None
        if lock_fd is None:
            return
        try:
            if directory.outbox().final:
                directory.remove_private()
        finally:
            os.close(lock_fd)

    def _is_old(self, directory: RunDirectory) -> bool:
        outbox = directory.outbox()
        if not outbox.final or outbox.reports:
            return False
        is_same = self._keep_unsent_s == self._keep_s
        keep_s = self._keep_s if is_same or directory.spec().agent.send_logs else self._keep_unsent_s
        return directory.ended_at() + keep_s <= time.time()

    def _report(self, directory: RunDirectory, remains: Remains | None) -> None:
        """Log a directory that cannot be removed, once, and its removal later."""
        run_id = directory.flow_run_id
        with self._lock:
            was_reported = run_id in self._reported
            self._reported.discard(run_id) if remains is None else self._reported.add(run_id)
        log = logger.bind(run_id=run_id)
        if remains is not None and not was_reported:
            text = "Cannot remove {}, {} are left; trying again every {:.0f} min: {}"
            size, reasons = mebibytes(remains.size_bytes), "; ".join(remains.reasons)
            log.warning(text, directory.path, size, _SWEEP_INTERVAL_S / 60, reasons, action="remove")
        elif remains is None and was_reported:
            log.info("Removed {}, which could not be removed before", directory.path, action="remove")
