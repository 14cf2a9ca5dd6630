"""Removes the working directory of a run as another user, which is not below the run's directory.

The runner makes it (flowherd_runner/other_user.py), at the path that spec.json names as `own_dir`.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path


def remove_own_directory(named: object, flow_run_id: str) -> None:
    """Remove the directory that a spec names, if it can be one that a runner has made for this flow run."""
    if not isinstance(named, str) or "\0" in named:
        return
    path = Path(named)
    if path.is_absolute() and path.name.startswith(f"{flow_run_id}-") and _is_passage(path.parent):
        shutil.rmtree(path, ignore_errors=True)


def _is_passage(path: Path) -> bool:
    """Return whether only this user may make entries in the directory, so that nobody else has put something there."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
