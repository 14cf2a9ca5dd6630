"""What a starting agent concludes from what it finds in a run directory: the table of docs/design.md, section 5."""

from __future__ import annotations

from enum import Enum


class Finding(Enum):
    """What became of a run while no agent looked."""

    #: The runner lives: watch, forward, enforce.
    ALIVE = "alive"
    #: The runner wrote its exit record: forward the rest, report.
    ENDED = "ended"
    #: The runner is gone without a record: end what is left of the tree, report the loss.
    LOST = "lost"
    #: No user code ran: deploy again if the claim is ours, else drop.
    NEVER_RAN = "never ran"


def conclude(*, lock_held: bool, exit_recorded: bool, started: bool) -> Finding:
    """What the lock and the two records together mean."""
    if lock_held:
        return Finding.ALIVE
    if exit_recorded:
        return Finding.ENDED
    return Finding.LOST if started else Finding.NEVER_RAN
