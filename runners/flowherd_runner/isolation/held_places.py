"""Holds directories above what is covered where they are: a run that may rename one could put its own in its place.

By its path, flowherd would then use what the run has put there, and the next run would see what was covered, elsewhere.
The kernel refuses to rename or remove what something is mounted on (rename(2), EBUSY), by whatever path.
"""

import os
from typing import Callable, Iterable

from flowherd_runner.isolation import system_calls
from flowherd_runner.isolation.mount_plan import directories_above, directory_of
from flowherd_runner.isolation.mount_table import mount_number

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def hold_above(paths: Iterable[str], can_change: Callable[[str], bool]) -> None:
    """Mount the directories above the real paths on themselves, each whose parent the run `can_change`.

    They then are mounts of their own, from which nothing can be renamed or linked to beside them. Raises OSError.
    """
    for path in sorted(directories_above(paths) - {"/"}, key=lambda one: (one.count("/"), one)):  # the outermost first
        if can_change(directory_of(path)):
            _hold(path)


def _hold(path: str) -> None:
    try:
        fd = os.open(path, _DIRECTORY)
    except OSError:  # something else is in the way to it
        return
    try:
        parent = os.open(directory_of(path), _DIRECTORY)
        try:
            is_mounted = mount_number(fd) != mount_number(parent)
        finally:
            os.close(parent)
        if not is_mounted:
            system_calls.bind_on_itself(fd)
    finally:
        os.close(fd)
