"""Makes directories in whose places a run has its own: nothing can be mounted where nothing is."""

import os
import pwd
from typing import Optional, Sequence


def make_missing(paths: Sequence[str], user: Optional[pwd.struct_passwd]) -> None:
    """Make the directories that do not exist, as the run's user; None: this process's.

    What cannot be made is left out, and then its run finds that it cannot write there. Another user's directories are
    made by a process of that user, because links below a user's home lead where the user wants.
    """
    missing = [path for path in paths if not os.path.isdir(path)]
    if not missing:
        return
    if user is None:
        _make(missing)
        return
    pid = os.fork()
    if pid == 0:
        try:
            os.initgroups(user.pw_name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            _make(missing)
        finally:  # nothing may return into the code of the flow process
            os._exit(0)
    os.waitpid(pid, 0)


def _make(paths: Sequence[str]) -> None:
    for path in paths:
        try:
            os.makedirs(path, exist_ok=True)
        except (OSError, ValueError):
            continue
