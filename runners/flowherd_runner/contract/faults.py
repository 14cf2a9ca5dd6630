"""Named points at which the test kit (tests/faults) can have this process killed; nothing else uses them.

Armed by FLOWHERD_FAULTS, which names a directory of instruction files: the file POINT holds a number n, and whoever
passes that point for the n-th time kills itself there. Without the variable a point costs one look at a name.
"""

import contextlib
import fcntl
import os
import signal

from flowherd_runner.contract.identity import own_start_ticks

_DIRECTORY = os.environ.get("FLOWHERD_FAULTS")


def point(name: str) -> None:
    """End here when the kit has said so."""
    if _DIRECTORY is None:
        return
    with contextlib.suppress(FileNotFoundError), open(os.path.join(_DIRECTORY, name), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # several processes may pass the point at once
        left = int(file.read().split()[0]) - 1
        if left >= 0:  # less: somebody has died here already, and the file says who
            file.seek(0)
            file.write("{} {} {}\n".format(left, os.getpid(), own_start_ticks()))
            file.truncate()
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
