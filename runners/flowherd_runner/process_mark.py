"""Marks processes as their run's, in memory that /proc shows of them.

/proc/PID/environ shows the memory in which execve(2) placed the environment, and putenv does not change that memory. So
a process that was forked by a fork server, and never became another program, would show the fork server's environment.
Therefore the fork server is started with a placeholder under the run id's name, which the run's id overwrites in the
flow process; all that it forks are found in the process table by that.

A runner shows its run in place of its command line. Nothing else of it can be read by an agent that is an ordinary user
(osapi.forbid_inspection), and its flow process, which was forked before, does not show it.
"""

import ctypes
from typing import Optional, Tuple

from flowherd_runner.contract.identity import runner_mark
from flowherd_runner.contract.variables import NO_RUN_ID, RUN_ID_VARIABLE


def _find() -> Optional[int]:
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    address: Optional[int] = getenv(RUN_ID_VARIABLE.encode())
    if address is None or ctypes.string_at(address) != NO_RUN_ID.encode():
        return None
    return address


def _find_arguments() -> Tuple[int, int]:
    """Return where the memory of the command line begins and ends; 0, 0 if that is not known."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        # arg_start and arg_end, fields 48 and 49 of proc(5); the first one after the name is number 3. Linux 3.5.
        return int(fields[48 - 3]), int(fields[49 - 3])
    except (OSError, ValueError, IndexError):
        return 0, 0


#: Address of the placeholder; looked up before the environment changes, because a variable that is set later moves.
_PLACE = _find()
_ARGUMENTS = _find_arguments()


def mark_process(run_id: str) -> None:
    """Show `run_id` in /proc/self/environ of this process and of those that it forks, if there is a placeholder."""
    value = run_id.encode()
    if _PLACE is not None and len(value) == len(NO_RUN_ID):
        ctypes.memmove(_PLACE, value, len(value))


def mark_runner(directory: str) -> None:
    """Show in /proc/self/cmdline that this process is the runner of the run directory, if there is room for that."""
    start, end = _ARGUMENTS
    mark = runner_mark(directory, end - start - 1)
    if mark:
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, mark, len(mark))
