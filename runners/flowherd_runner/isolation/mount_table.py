"""What is mounted where (proc_pid_mountinfo(5)), and under which other paths the same directory can be reached."""

import os
import re
from typing import Dict, Iterator, List, NamedTuple, Optional

from flowherd_runner.isolation.system_calls import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY

_FLAGS = {
    "ro": MS_RDONLY,
    "nosuid": MS_NOSUID,
    "nodev": MS_NODEV,
    "noexec": MS_NOEXEC,
    "noatime": 1 << 10,
    "nodiratime": 1 << 11,
    "relatime": 1 << 21,
}
_ESCAPE = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One mount of this process's mount namespace."""

    number: int
    #: Major and minor number of the file system, "8:1".
    device: str
    #: The directory of the file system that is attached.
    root: str
    #: Where it is attached.
    point: str
    #: How it is attached, as mount(2) takes it.
    flags: int
    #: What was mounted, such as /dev/sda1; as the file system names it.
    source: str

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed by way of this mount."""
        return bool(self.flags & MS_RDONLY)


class MountTable:
    """The mounts at the moment of reading."""

    def __init__(self, text: str) -> None:
        self.mounts = [_parse(line) for line in text.splitlines()]
        self._by_number = {mount.number: mount for mount in self.mounts}
        self._by_device: Dict[str, List[Mount]] = {}
        for mount in self.mounts:
            self._by_device.setdefault(mount.device, []).append(mount)

    def mount_of(self, fd: int) -> Optional[Mount]:
        """Return the mount through which `fd` was opened; None if it is not in the table."""
        return self._by_number.get(mount_number(fd))

    def aliases(self, path: str, fd: int) -> Iterator[str]:
        """Yield other paths at which what `fd`, opened at the real path `path`, stands for can be seen, or parts of it.

        Another mount of the same file system shows it, or a directory below it is mounted elsewhere too.
        """
        own = self.mount_of(fd)
        if own is None:
            return
        inner = _joined(own.root, _below(path, own.point) or "")
        for mount in self._by_device[own.device]:
            if mount is own:
                continue
            below = _below(inner, mount.root)
            if below is not None:
                candidate = _joined(mount.point, below)
            elif _below(mount.root, inner) is not None and not is_inside(mount.point, path):
                candidate = mount.point
            else:
                continue
            if candidate != path and _is_seen_through(candidate, mount):
                yield candidate


def read_mount_table() -> MountTable:
    """Return the table of this process. Raises OSError."""
    with open("/proc/self/mountinfo", errors="surrogateescape") as file:
        return MountTable(file.read())


def mount_number(fd: int) -> int:
    """Return the number of the mount through which `fd` was opened; -1 when the kernel does not say."""
    try:
        with open("/proc/self/fdinfo/{}".format(fd)) as file:
            found = re.search(r"^mnt_id:\s*(\d+)", file.read(), re.MULTILINE)
    except OSError:
        return -1
    return int(found.group(1)) if found else -1


def is_inside(path: str, directory: str) -> bool:
    """Return whether `path` is `directory` or below it; both are absolute and normal."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _below(path: str, directory: str) -> Optional[str]:
    """Return the way from `directory` to `path`, empty for the same; None when it is not below it."""
    return path[len(directory.rstrip("/")) :].lstrip("/") if is_inside(path, directory) else None


def _joined(directory: str, below: str) -> str:
    return os.path.join(directory, below) if below else directory


def _is_seen_through(path: str, mount: Mount) -> bool:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return mount_number(fd) == mount.number
    finally:
        os.close(fd)


def _parse(line: str) -> Mount:
    head, _, tail = line.partition(" - ")
    fields = head.split(" ")
    source = tail.split(" ")[1]
    flags = sum(_FLAGS.get(option, 0) for option in fields[5].split(","))
    return Mount(int(fields[0]), fields[2], _plain(fields[3]), _plain(fields[4]), flags, _plain(source))


def _plain(text: str) -> str:
    """Undo the octal escapes of the kernel."""
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text) if "\\" in text else text
