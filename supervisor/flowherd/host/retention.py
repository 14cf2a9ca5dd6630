"""Removes the directories of ended runs after the retention time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from loguru import logger

from flowherd.errors import RunDirectoryDamaged
from flowherd.host.store.run_directory import RunDirectory

#: How long an ended run's directory is kept if its log is nowhere else, seconds.
_KEEP_WITHOUT_CLOUD_LOGS_S = 7 * 86400.0


def keep_s(setting: float | None, *, logs_are_elsewhere: bool) -> float:
    """Return how long to keep the directory of an ended run, seconds; `setting` is runs.keep."""
    if setting is not None:
        return setting
    return 0.0 if logs_are_elsewhere else _KEEP_WITHOUT_CLOUD_LOGS_S


def sweep(directories: Iterable[RunDirectory], keep_s: float, in_use: Callable[[str], bool]) -> None:
    """Remove the directories of runs that ended more than `keep_s` ago and whose end the backend knows.

    Damaged directories are left for a person to look at.
    """
    for directory in directories:
        if in_use(directory.flow_run_id):
            continue
        try:
            outbox = directory.outbox()
        except RunDirectoryDamaged as error:
            logger.bind(run_id=directory.flow_run_id).warning("Keeping a damaged run directory: {}", error)
            continue
        if outbox.final and not outbox.reports and directory.ended_at() + keep_s <= time.time():
            remove(directory)


def remove(directory: RunDirectory) -> bool:
    """Remove the directory unless a runner or a new start of the flow run holds its lock. Return whether it is gone."""
    lock_fd = directory.try_lock()
    if lock_fd is None:
        return False
    directory.remove()
    os.close(lock_fd)
    return True
