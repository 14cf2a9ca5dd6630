"""Removes the working directory of a run as another user, which is not below the run's directory.

The runner makes it (flowherd_runner/other_user.py), at the path that spec.json names as `own_dir`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from flowherd.host.store.remove_tree import Remains, remove_tree


def remove_own_directory(named: object, flow_run_id: str) -> Remains | None:
    """Remove the directory that a spec names, if it can be one that a runner has made for this flow run.

    Return None if nothing of it is left, else what is left and why.
    """
    if not isinstance(named, str) or "\0" in named:
        return None
    path = Path(named)
    if path.is_absolute() and path.name.startswith(f"{flow_run_id}-") and _is_passage(path.parent):
        return remove_tree(path)
    return None


def _is_passage(path: Path) -> bool:
    """Return whether only this user may make entries in the directory, so that nobody else has put something there."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
