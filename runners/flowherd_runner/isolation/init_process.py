"""The init process of a run's pid namespace: starts it, sees whether it has adopted orphans, and ends it with all else.

It is the first child of a runner after `separate_children`, so pid 1 in there; the flow process is a child of the
runner beside it, so its signals and its wait status are as ever. The kernel gives the run's orphans to pid 1, and kills
every process of the namespace when pid 1 ends (pid_namespaces(7)).
"""

import ctypes
import os
import select
import signal
import socket
from typing import List, NoReturn, Optional

from flowherd_runner import osapi
from flowherd_runner.isolation.init_program import NAME, program

#: How long it may take until it is ready, seconds; usually half a millisecond.
_READY_S = 10.0
#: memfd_create(2)
_MFD_CLOEXEC, _MFD_EXEC = 1, 0x10

_libc = ctypes.CDLL(None, use_errno=True)


class InitProcess:
    """The init process of the namespace that this process has just made. Raises OSError if it cannot be started."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            self.pid = _spawn(theirs) or _fork(theirs, self._channel)

    def wait_until_ready(self) -> bool:
        """Return whether it is ready: before that, a process of the run could look into it."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        if not poll.poll(int(1000 * _READY_S)):
            return False
        try:
            return bool(self._channel.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def orphans(self) -> List[int]:
        """Return its children: processes whose parents in the namespace have ended (proc(5), children).

        Raises OSError when it was waited for, or on a kernel without such lists (CONFIG_PROC_CHILDREN).
        """
        with open("/proc/{0}/task/{0}/children".format(self.pid)) as file:
            return [int(pid) for pid in file.read().split()]

    def kill(self) -> None:
        """Have the kernel end it, and every other process of the namespace. Its parent must wait for it."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def end(self) -> None:
        """Kill it and wait for its end; the other processes of the namespace must have been waited for, or be dying."""
        self.kill()
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass


def _spawn(theirs: socket.socket) -> Optional[int]:
    """Start the tiny program (init_program.py) without a fork of this process's memory; None if that cannot be done."""
    executable = program()
    if executable is None or not hasattr(os, "posix_spawn"):  # Python 3.7 has none
        return None
    try:
        fd = _memory_file(executable)
    except OSError:
        return None
    try:
        to_0 = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)]
        return os.posix_spawn("/proc/self/fd/{}".format(fd), [NAME], {}, file_actions=to_0)
    except OSError:  # sysctl vm.memfd_noexec, or a security module
        return None
    finally:
        os.close(fd)


def _memory_file(content: bytes) -> int:
    """Return a descriptor of a file in memory that can be executed. Raises OSError."""
    for flags in (_MFD_CLOEXEC | _MFD_EXEC, _MFD_CLOEXEC):  # kernels before 6.3 do not know the second flag
        fd = int(_libc.memfd_create(NAME.encode(), ctypes.c_uint(flags)))
        if fd >= 0:
            os.write(fd, content)
            return fd
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "memfd_create")


def _fork(theirs: socket.socket, ours: socket.socket) -> int:
    """Fork this process as an init process, which takes more memory. Raises OSError.

    No other program is started: it would be dumpable, and a process of the run could look into it.
    """
    pid = os.fork()
    if pid == 0:
        _be_init(theirs.fileno(), ours.fileno())
    return pid


def _be_init(fd: int, other: int) -> NoReturn:
    """Do what the program of init_program.py does."""
    try:
        osapi.forbid_inspection()
        osapi.die_with_parent(0)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.dup2(fd, 0)
        for each in {1, 2, fd, other, *osapi.open_fds()} - {0}:
            try:
                os.close(each)
            except OSError:
                continue
        os.write(0, NAME[:1].encode())
        os.read(0, 1)
    finally:
        os._exit(0)
