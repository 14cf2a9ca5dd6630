"""The namespaces of a run (namespaces(7)): its processes are in a pid namespace, its mounts in one of their own.

An ordinary user needs a user namespace for that, with the user's own id and group and no others (user_namespaces(7)).
Root needs none, so that a root run can still become another user.
"""

import errno
import fcntl
import os
import socket
import struct
from typing import NamedTuple, Optional

from flowherd_runner import osapi
from flowherd_runner.isolation import capabilities, system_calls

# netdevice(7)
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_IFREQ = struct.Struct("16sh22x")


class NotToBeHad(Exception):
    """This host does not give it; the text is a sentence that says why."""


class Apart(NamedTuple):
    """Whether a flow process, which is to be kept apart, is in a pid namespace with others of its run only."""

    #: Pid of the first process of that namespace, as its runner sees it; None: there is no such namespace.
    init_pid: Optional[int]
    #: Why there is none, a sentence; empty when there is one.
    why_not: str = ""


def separate_children() -> None:
    """Have the next child of this process be the first one of a new pid namespace, and further ones be in it too.

    For a runner, which itself stays where it is: its pid, and what it sees of others, do not change. It must have one
    thread. Raises NotToBeHad.
    """
    if osapi.thread_count() > 1:
        raise NotToBeHad("a process with threads cannot enter a user namespace (unshare(2))")
    try:
        if not capabilities.has(capabilities.SYS_ADMIN):
            _enter_user_namespace()
        system_calls.unshare(system_calls.CLONE_NEWPID)
    except OSError as error:
        raise NotToBeHad(_why(error)) from error


def own_mounts(own_network: bool) -> None:
    """Give this process mounts and IPC of its own, and with `own_network` a network without any interface but lo.

    What the host mounts later still arrives; what this process mounts does not reach the host. Raises NotToBeHad.
    """
    network = system_calls.CLONE_NEWNET if own_network else 0
    try:
        system_calls.unshare(system_calls.CLONE_NEWNS | system_calls.CLONE_NEWIPC | network)
        # On Ubuntu with AppArmor's rule, entering a user namespace succeeds and this is what fails.
        system_calls.mount(None, "/", None, system_calls.MS_REC | system_calls.MS_SLAVE)
        if own_network:
            _start_loopback()
    except OSError as error:
        raise NotToBeHad(_why(error)) from error


def _enter_user_namespace() -> None:
    user, group = os.geteuid(), os.getegid()
    system_calls.unshare(system_calls.CLONE_NEWUSER)
    # The files of a process that is not dumpable are root's (proc(5)), and a change of credentials makes it so.
    was_open = osapi.allows_inspection()
    osapi.allow_inspection()
    try:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", "{0} {0} 1".format(user))
        _write("/proc/self/gid_map", "{0} {0} 1".format(group))
    finally:
        if not was_open:
            osapi.forbid_inspection()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _start_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        name = b"lo"
        _, flags = _IFREQ.unpack(fcntl.ioctl(ours, _SIOCGIFFLAGS, _IFREQ.pack(name, 0)))
        fcntl.ioctl(ours, _SIOCSIFFLAGS, _IFREQ.pack(name, flags | _IFF_UP))


def _why(error: OSError) -> str:
    reasons = {
        errno.EPERM: "this host does not let this user have namespaces of its own",
        errno.EACCES: "this host does not let this user have namespaces of its own",
        errno.ENOSPC: "this host allows no more namespaces (user.max_user_namespaces and the like, namespaces(7))",
        errno.ENOSYS: "this kernel has no namespaces",
        errno.EINVAL: "this kernel does not have all of these namespaces",
    }
    reason = reasons.get(error.errno or 0, "namespaces cannot be had")
    return "{}: {} says {}".format(reason, error.filename, error.strerror)
