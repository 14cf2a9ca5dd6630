"""Marks a forked process as its run's, so that whoever looks at the process table finds it and all that it forks.

/proc/PID/environ shows the memory in which execve(2) laid down the environment, and putenv leaves that as it is: a
process that was forked by a fork server and never became another program would show the fork server's environment. So
the fork server is started with a placeholder under the run id's name, and the run's id is written over it.
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


#: Found before anything changes the environment, for a variable that was set since lies elsewhere.
_PLACE = _find()


def mark_process(run_id: str) -> None:
    """Show `run_id` in /proc/self/environ, of this process and of those that it forks. Without a place, do nothing."""
    value = run_id.encode()
    if _PLACE is not None and len(value) == len(NO_RUN_ID):
        ctypes.memmove(_PLACE, value, len(value))
