"""The places of the system that a run has of its own, or cannot change: /dev, terminals, queues, /proc and /sys."""

import contextlib
import os
import stat
from typing import Callable, Iterator, List, Tuple

from flowherd_runner.isolation import system_calls
from flowherd_runner.isolation.mount_table import MountTable, is_inside, is_seen_through
from flowherd_runner.isolation.read_only import make_read_only
from flowherd_runner.isolation.system_calls import ATTR_NODEV, MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID

#: Devices that every program may use.
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
#: Beginnings of the names of graphics processors and what belongs to them, which are made for computing.
_COMPUTING = ("nvidia", "dri", "kfd", "dxg")
_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
#: Kernel parameters and the like, which root may change (proc(5)).
_PARAMETERS = ("sys", "sysrq-trigger", "irq", "bus", "fs")
#: File systems that show processes, control groups, devices and terminals of the host, wherever they are mounted.
_OF_HOST = frozenset(
    {
        "proc",
        "sysfs",
        "cgroup",
        "cgroup2",
        "devtmpfs",
        "devpts",
        "mqueue",
        "debugfs",
        "tracefs",
        "securityfs",
        "configfs",
    }
    | {"bpf", "efivarfs", "pstore"}
)
_OWN_PLACES = ("/proc", "/sys", "/dev")
_PLAIN = MS_NOSUID | MS_NODEV | MS_NOEXEC

#: What is done, in words, and the step.
Step = Tuple[str, Callable[[], None]]


def steps(table: MountTable, is_root: bool) -> Iterator[Step]:
    """Yield the steps in order; `is_root`: the run's processes are root's."""
    if is_root:
        yield "no devices but those of its own /dev", _no_devices_elsewhere
    if is_root or reaches_disks(table):
        yield "a /dev of its own", _own_devices
    yield "a /dev/pts of its own", _own_terminals
    yield "a /dev/mqueue of its own", _own_queues
    yield "a /proc of its own", _own_proc
    if is_root:
        yield "kernel parameters that it cannot change", _fixed_parameters
    yield "a /sys that it cannot change", _fixed_sys


def second_places(table: MountTable) -> List[str]:
    """Return where the host's /proc, /dev and the like are mounted once more, as in a directory made for chroot(2)."""
    elsewhere = (mount for mount in table.of_kinds(_OF_HOST) if not _is_own_place(mount.point))
    return [mount.point for mount in elsewhere if is_seen_through(mount.point, mount)]


def _is_own_place(path: str) -> bool:
    return any(is_inside(path, place) for place in _OWN_PLACES)


def writable_places() -> List[str]:
    """Return those of them that stay writable in a run whose root directory is not."""
    return [path for path in ("/dev/pts", "/dev/mqueue", "/proc") if os.path.ismount(path)]


def reaches_disks(table: MountTable) -> bool:
    """Whether this user may read what is mounted straight from its disk, as members of the group "disk" may."""
    sources = {mount.source for mount in table.mounts if mount.source.startswith("/dev/")}
    return any(os.access(source, os.R_OK) for source in sources)


def _no_devices_elsewhere() -> None:
    system_calls.set_mount_attributes("/", on=ATTR_NODEV, recursive=True)


def _own_devices() -> None:
    """Mount a small /dev, with the host's devices that cannot be used against it."""
    found = [(name, os.open("/dev/" + name, os.O_PATH | os.O_CLOEXEC)) for name in device_names()]
    log = os.readlink("/dev/log") if os.path.islink("/dev/log") else None
    try:
        system_calls.mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "size=1m,mode=0755")
        for name, fd in found:
            _attach(name, fd)
        with contextlib.suppress(OSError):  # before Linux 5.12, where it has not been set either
            system_calls.set_mount_attributes("/dev", off=ATTR_NODEV, recursive=True)
    finally:
        for _, fd in found:
            os.close(fd)
    for name, target in _LINKS.items():
        os.symlink(target, "/dev/" + name)
    if log is not None:
        os.symlink(log, "/dev/log")
    for name in ("shm", "pts", "mqueue"):
        os.mkdir("/dev/" + name)


def device_names() -> List[str]:
    """Return the names in /dev of the host's devices that cannot be used against it."""
    names = [name for name in os.listdir("/dev") if name in _DEVICES or name.startswith(_COMPUTING)]
    if os.path.exists("/dev/log") and not os.path.islink("/dev/log"):
        names.append("log")
    return names


def _attach(name: str, fd: int) -> None:
    path, found = "/dev/" + name, os.fstat(fd)
    if stat.S_ISDIR(found.st_mode):
        os.mkdir(path)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    system_calls.bind(fd, path)


def _own_terminals() -> None:
    if os.path.isdir("/dev/pts"):
        system_calls.mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")


def _own_queues() -> None:
    if os.path.isdir("/dev/mqueue"):
        system_calls.mount("mqueue", "/dev/mqueue", "mqueue", _PLAIN)


def _own_proc() -> None:
    system_calls.mount("proc", "/proc", "proc", _PLAIN)


def _fixed_parameters() -> None:
    for name in _PARAMETERS:
        path = "/proc/" + name
        if os.path.exists(path):
            system_calls.mount(path, path, None, MS_BIND | system_calls.MS_REC)
            make_read_only(path)


def _fixed_sys() -> None:
    if os.path.ismount("/sys"):
        make_read_only("/sys")
