"""From when on something is notified, and until when it has to get better before it is over: not the same, so that what
goes up and down is not told again and again.
"""

from __future__ import annotations

from dataclasses import replace

from flowherd.host_figures import DiskFigures
from flowherd.story.verdict import NEAR_LIMIT_SHARE

#: Share of its memory limit below which a run that was near it is so no more.
_NO_LONGER_NEAR = 0.8
#: Share of the most output that may wait from which on it is much, and below which it is not any more.
MUCH_UNSENT, _NO_LONGER_MUCH = 0.8, 0.7
#: A disk has room again with this many times as much room as one that is low has at most.
_ROOM_AGAIN = 1.1


def is_near_limit(used_bytes: int, limit_bytes: int, *, was_near: bool) -> bool:
    """Return whether a run is near its memory limit."""
    return used_bytes >= (_NO_LONGER_NEAR if was_near else NEAR_LIMIT_SHARE) * limit_bytes


def is_much_unsent(unsent_bytes: int, most_bytes: int, *, was_much: bool) -> bool:
    """Return whether an agent has much output to send."""
    return unsent_bytes > (_NO_LONGER_MUCH if was_much else MUCH_UNSENT) * most_bytes


def is_nearly_full(disk: DiskFigures, *, was_full: bool) -> bool:
    """Return whether a disk has too little room."""
    return disk.is_low or (was_full and replace(disk, free_bytes=int(disk.free_bytes / _ROOM_AGAIN)).is_low)
