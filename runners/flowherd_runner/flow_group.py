"""The process group of a flow process, as its runner sees it.

The flow process is the runner's child and not reaped yet, so neither its pid nor its group can be another program's.
"""

import os


def set_group(pid: int) -> None:
    """Put the child `pid` into a group of its own; the child does the same, and the second of the two finds it done."""
    try:
        os.setpgid(pid, pid)
    except (PermissionError, ProcessLookupError):
        pass  # the child was first, and is already another program or gone


def group_exists(group: int) -> bool:
    """Return whether the group has a process."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def signal_group(pid: int, number: int, to_group: bool = True) -> None:
    """Send the signal to the flow process `pid` and, with `to_group`, to its group.

    What has ended, or belongs to another user, does not get it.
    """
    if to_group:
        try:
            os.killpg(pid, number)
        except (ProcessLookupError, PermissionError):
            pass
    try:
        if not to_group or os.getpgid(pid) != pid:  # it has left the group that it was given
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass
