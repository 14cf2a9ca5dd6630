"""The cgroups in which the spare runners of a fork server are already, for runs to have one of them.

To move a process into a cgroup takes the kernel some ten milliseconds: as long as all else between a run's creation and
its first line. A spare enters one before there is a run for it, and only the run that was promised this cgroup gets the
spare. If the spare has ended by then, another runner enters the run's cgroup.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from flowherd.host.processes import cgroups

#: How long to wait until the processes in cgroups have ended, seconds.
_END_TIMEOUT_S = 1.0


class SpareCgroups:
    """Which cgroups of spares can be reserved for a run; usable from several threads. `parent` is where they are."""

    def __init__(self, parent: Path | None) -> None:
        self.parent = parent
        self._lock = threading.Lock()
        self._reported: tuple[str, ...] = ()
        self._reserved: set[str] = set()

    def note(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Take over what the fork server reports; what it does not report any more is gone or used.

        Returns what it reported before.
        """
        with self._lock:
            before, self._reported = self._reported, tuple(paths)
            self._reserved &= set(paths)
            return before

    def reserve(self) -> str | None:
        """Return one that no other run was promised; None if there is none."""
        with self._lock:
            path = next((one for one in self._reported if one not in self._reserved), None)
            if path is not None:
                self._reserved.add(path)
            return path

    def give_back(self, path: str) -> None:
        """Let another run have it: the run that it was reserved for was never handed over."""
        with self._lock:
            self._reserved.discard(path)


def remove_when_empty(paths: Sequence[str]) -> None:
    """Remove cgroups whose processes are about to end; one that is in use stays. Kills nothing."""
    deadline_s = time.monotonic() + _END_TIMEOUT_S
    for path in paths:
        cgroups.remove(Path(path), deadline_s - time.monotonic())
