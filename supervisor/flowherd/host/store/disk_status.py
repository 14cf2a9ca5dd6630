"""What the files of a run directory say about the run: the table of docs/design.md, section 5."""

from __future__ import annotations

from enum import Enum


class DiskStatus(Enum):
    """What became of a run, by its lock and its records."""

    #: The runner lives: watch, forward, enforce limits.
    ALIVE = "alive"
    #: The runner wrote its exit record: forward the rest, report.
    ENDED = "ended"
    #: The runner is gone without a record: end what is left of the tree, report the loss.
    LOST = "lost"
    #: No user code ran: start it again if the claim is ours, else drop it.
    NEVER_RAN = "never ran"


def disk_status(*, lock_held: bool, exit_recorded: bool, started: bool) -> DiskStatus:
    """Return what the lock and the two records together mean."""
    if lock_held:
        return DiskStatus.ALIVE
    if exit_recorded:
        return DiskStatus.ENDED
    return DiskStatus.LOST if started else DiskStatus.NEVER_RAN
