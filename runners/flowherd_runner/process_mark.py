"""Marks a forked process as its run's, so that it, and all that it forks, can be found in the process table.

/proc/PID/environ shows the memory in which execve(2) placed the environment, and putenv does not change that memory. So
a process that was forked by a fork server, and never became another program, would show the fork server's environment.
Therefore the fork server is started with a placeholder under the run id's name, which the run's id overwrites.
"""

import ctypes
from typing import Optional

from flowherd_runner.contract.variables import NO_RUN_ID, RUN_ID_VARIABLE


def _find() -> Optional[int]:
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    address: Optional[int] = getenv(RUN_ID_VARIABLE.encode())
    if address is None or ctypes.string_at(address) != NO_RUN_ID.encode():
        return None
    return address


#: Address of the placeholder; looked up before the environment changes, because a variable that is set later moves.
_PLACE = _find()


def mark_process(run_id: str) -> None:
    """Show `run_id` in /proc/self/environ of this process and of those that it forks, if there is a placeholder."""
    value = run_id.encode()
    if _PLACE is not None and len(value) == len(NO_RUN_ID):
        ctypes.memmove(_PLACE, value, len(value))
