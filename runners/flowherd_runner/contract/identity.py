"""Which process a pid belongs to: pid, start ticks and boot id identify it together (proc(5), random(4))."""

import functools
import os
import pwd
import zlib
from typing import Container, List, Optional, Tuple

from flowherd_runner.contract.files import read_all
from flowherd_runner.contract.variables import RUN_ID_VARIABLE

#: First word of a runner's command line; followed by its run's id and what distinguishes the directory.
_RUNNER = b"flowherd-runner"
#: Longest part of a command line in which the mark is looked for, bytes.
_MAX_MARK_BYTES = 4096
#: No environment is larger: the kernel gives arguments and environment three quarters of 8 MiB (execve(2)).
_MAX_ENVIRONMENT_BYTES = 8 * 1024 * 1024


def process_status(pid: int) -> Optional[Tuple[int, int, str]]:
    """Return parent pid, start ticks and state letter of `pid` from /proc/PID/stat (proc(5)); None when it is gone.

    The start ticks count from boot and do not move when the clock is set, so together with the boot id they identify a
    process for ever; a pid alone does not.
    """
    try:
        with open("/proc/{}/stat".format(pid), "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1]), int(fields[19]), fields[0].decode()


def own_start_ticks() -> int:
    """Return the start ticks of this process."""
    status = process_status(os.getpid())
    assert status is not None
    return status[1]


@functools.lru_cache(maxsize=None)
def boot_id() -> str:
    """Return the kernel's id of this boot (random(4)), which no process outlives."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def is_alive(pid: int, start_ticks: int) -> bool:
    """Whether the process that started at `start_ticks` still runs (a zombie does not)."""
    status = process_status(pid)
    return status is not None and status[1] == start_ticks and status[2] not in "ZX"


def runner_mark(directory: str, room: int) -> bytes:
    """Return what the runner of a run directory, which is named by the run's id, shows as its command line.

    Words with a null character between them (process_mark.py), at most `room` bytes: without the first word if it does
    not fit, and nothing if the rest does not.
    """
    run = b"\0".join((os.fsencode(os.path.basename(directory)), _distinction(directory)))
    whole = b"\0".join((_RUNNER, run))
    return whole if len(whole) <= room else run if len(run) <= room else b""


def shows_runner(pid: int, run_id: str, directory: Optional[str] = None) -> bool:
    """Return whether `pid` shows that it is the runner of the run; with `directory`, of that one alone.

    False for runners of 0.1.0, which show their fork server's command line. A flow can write the same into its own
    memory, so this distinguishes processes and proves nothing against one that lies; but not one in a pid namespace of
    its own, where no runner is.
    """
    try:
        with open("/proc/{}/cmdline".format(pid), "rb") as file:
            words = file.read(_MAX_MARK_BYTES).rstrip(b"\0").split(b"\0")
    except OSError:  # ended, or hidden
        return False
    if words[-2:-1] != [run_id.encode()] or len(words) > 3:
        return False
    return (directory is None or words[-1] == _distinction(directory)) and _is_in_our_namespace(pid)


def _distinction(directory: str) -> bytes:
    """Return a word that differs for run directories of one run under several agents."""
    return b"%08x" % zlib.crc32(os.fsencode(os.path.realpath(directory)))


def _is_in_our_namespace(pid: int) -> bool:
    """Return whether `pid` has no other pid within a namespace of its own (NSpid in proc(5), /proc/PID/status)."""
    try:
        with open("/proc/{}/status".format(pid), "rb") as file:
            return all(len(line.split()) == 2 for line in file if line.startswith(b"NSpid:"))
    except OSError:
        return False


def is_hidden_when_closed() -> bool:
    """Return whether /proc would hide a process that is not dumpable from other processes of this user.

    An agent could then not supervise a runner that is closed to inspection (hidepid and gid in proc(5)).
    """
    if os.geteuid() == 0:
        return False
    hidden = "off"
    group: Optional[str] = None
    try:
        with open("/proc/self/mountinfo") as file:
            for line in file:  # of several mounts on /proc the last is on top
                place, _, rest = line.partition(" - ")
                if place.split()[4] == "/proc":
                    options = dict(one.partition("=")[::2] for one in rest.split()[-1].split(","))
                    hidden, group = options.get("hidepid", "off"), options.get("gid")
    except (OSError, ValueError, IndexError):
        return False
    sees_all = hidden not in ("4", "ptraceable") and group is not None and int(group) in {os.getegid(), *os.getgroups()}
    return hidden not in ("0", "off") and not sees_all


def members_by_variable(run_id: str, pids: List[int]) -> List[int]:
    """Return those of `pids` whose initial environment carries the run's id, as far as this user may read it."""
    wanted = "{}={}".format(RUN_ID_VARIABLE, run_id).encode()
    found = []
    for pid in pids:
        try:
            with open("/proc/{}/environ".format(pid), "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.append(pid)
        except OSError:  # ended, or another user's
            continue
    return found


def all_pids() -> List[int]:
    """Return the pids of all processes that /proc shows."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def carriers(pids: List[int], run_ids: Container[str]) -> List[Tuple[int, str]]:
    """Return those of `pids` whose initial environment carries one of `run_ids`, with that id; never this process.

    Processes of which this user may not read the environment are left out.
    """
    prefix = "{}=".format(RUN_ID_VARIABLE).encode()
    found = []
    for pid in pids:
        try:
            fd = os.open("/proc/{}/environ".format(pid), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # ended, or another user's
            continue
        try:
            environment = read_all(fd, _MAX_ENVIRONMENT_BYTES)
        except OSError:
            continue
        finally:
            os.close(fd)
        carried = next((one[len(prefix) :] for one in environment.split(b"\0") if one.startswith(prefix)), None)
        run_id = None if carried is None else carried.decode("utf-8", "replace")
        if run_id is not None and run_id in run_ids and pid != os.getpid():
            found.append((pid, run_id))
    return found


def session_of(pid: int) -> Optional[int]:
    """Return the session id of `pid` (setsid(2)), None without such a process. The id outlives the session's leader."""
    try:
        return os.getsid(pid)
    except OSError:
        return None


def user_of(pid: int) -> Optional[str]:
    """Return the user that `pid` runs as (its effective uid; proc(5), /proc/PID/status); None when it is not known.

    The owner of /proc/PID is not used: for a process that changed its user it is root.
    """
    try:
        with open("/proc/{}/status".format(pid), "rb") as file:
            line = next(line for line in file if line.startswith(b"Uid:"))
    except (OSError, StopIteration):
        return None
    uid = int(line.split()[2])
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def name_of(pid: int) -> str:
    """Return the name of `pid` (proc(5), /proc/PID/comm); "?" when it is not known."""
    try:
        with open("/proc/{}/comm".format(pid), "rb") as file:
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return "?"


def may_not_signal(pid: int) -> bool:
    """Return whether `pid` is a process that this user may not signal, because it belongs to another user."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        pass
    return False
