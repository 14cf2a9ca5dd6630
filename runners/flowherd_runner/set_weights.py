"""Gives the processes of a run their weights: nice value, class of I/O, score for the out-of-memory killer, cores.

Each is inherited by what the run starts. The runner keeps the agent's, so that a run that takes all it may does not
keep the end of that run from being recorded.
"""

import ctypes
import errno
import math
import os
import time
from typing import Optional

from flowherd_runner import osapi
from flowherd_runner.contract.files import read_content
from flowherd_runner.contract.weights import Weights, io_priority
from flowherd_runner.kinds.definition import NotStarted

#: Number of ioprio_set(2), for which no C library has a function, by machine; 30 in the kernel's generic table.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "loongarch64": 30, "ppc64le": 273, "s390x": 282}
_IOPRIO_WHO_PROCESS = 1
#: How often to try to change the session, and the shortest pause between two tries, seconds.
_SESSION_TRIES = 4
_SESSION_PAUSE_S = 0.05

_libc = ctypes.CDLL(None, use_errno=True)


def set_weights(weights: Weights) -> None:
    """Give this process, the flow process, its weights, except for cores. Raises NotStarted.

    Called before the user changes, so that a run as another user can get what only root may give.
    """
    if weights.nice is not None:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, weights.nice)
        except OSError as error:
            text = "nice {} cannot be set: {}; the agent has {}, and a lower value needs {}"
            raise NotStarted(text.format(weights.nice, error.strerror, os.nice(0), _need("CAP_SYS_NICE"))) from error
        _weigh_session(weights.nice)
    if weights.io is not None:
        _set_io(weights.io)
    if weights.oom_score_adj is not None:
        _set_oom_score(weights.oom_score_adj)


def limit_cores(pid: int, cores: Optional[float], cgroup: Optional[str]) -> None:
    """Limit the process `pid`, which has started no other, to `cores` cores, by affinity.

    Does nothing if the cgroup, in which the process is, has a limit of its own, or if there are not more cores. Runs
    start at different cores, so that they do not share one while others are idle.
    """
    if cores is None or _is_limited_by(cgroup):
        return
    allowed = sorted(os.sched_getaffinity(pid))
    number = max(1, math.ceil(cores))
    if number >= len(allowed):
        return
    first = pid % len(allowed)
    try:
        os.sched_setaffinity(pid, (allowed[first:] + allowed[:first])[:number])
    except OSError:  # it has ended, or the cores were taken away meanwhile: a limit is not worth a run
        pass


def _is_limited_by(cgroup: Optional[str]) -> bool:
    """Whether the cgroup has a limit of processor time (cpu.max, cgroup-v2.rst)."""
    if cgroup is None:
        return False
    try:
        return not (read_content(os.path.join(cgroup, "cpu.max")) or b"max").startswith(b"max")
    except OSError:
        return False


def _set_io(name: str) -> None:
    machine = os.uname().machine
    number = _IOPRIO_SET.get(machine)
    try:
        value = io_priority(name)
        if number is None or ctypes.sizeof(ctypes.c_void_p) != 8:
            raise NotStarted("the class of I/O {} cannot be set on this machine, {}".format(name, machine))
        if _libc.syscall(ctypes.c_long(number), _IOPRIO_WHO_PROCESS, 0, value) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
    except (ValueError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise NotStarted("the class of I/O {} cannot be set: {}".format(name, why)) from error


def _weigh_session(nice: int) -> None:
    """Give the run's session, which the runner leads, the nice value too: if the kernel makes a group of each session,
    the value of a process counts only within it (sched(7), autogroup).

    The kernel takes ten such changes a second from ordinary users. A run starts without if it is one of more.
    """
    for _ in range(_SESSION_TRIES):
        try:
            _write_own("autogroup", nice)
            return
        except OSError as error:
            if error.errno != errno.EAGAIN:  # most often: there are no such groups
                return
        time.sleep(_SESSION_PAUSE_S * (1 + os.urandom(1)[0] / 255))


def _set_oom_score(score: int) -> None:
    try:
        _write_own("oom_score_adj", score)
    except OSError as error:
        text = "oom_score_adj {} cannot be set: {}; the agent has {}, and a lower value needs {}"
        own = (read_content("/proc/self/oom_score_adj") or b"?").decode().strip()
        raise NotStarted(text.format(score, error.strerror, own, _need("CAP_SYS_RESOURCE"))) from error


def _need(capability: str) -> str:
    """Return what a lower value needs: most users think of root, but root in a container may lack the capability."""
    return "root" if os.geteuid() != 0 else "{}, which this root does not have".format(capability)


def _write_own(name: str, value: int) -> None:
    """Write a number into a file of /proc/self. Raises OSError."""
    path = "/proc/self/" + name
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except PermissionError:
        # The files of a process that may not be inspected are root's (proc(5), PR_SET_DUMPABLE).
        osapi.allow_inspection()
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)
