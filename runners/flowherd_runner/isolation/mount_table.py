"""What is mounted where (proc_pid_mountinfo(5)), and under which other paths the same directory can be reached."""

import os
import re
from typing import Collection, Dict, Iterator, List, NamedTuple, Optional, Tuple

from flowherd_runner.contract.files import read_all
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
#: A host with more mounts than fit here is none.
_MAX_BYTES = 64 * 1024 * 1024
#: More than the beginning of proc_pid_fdinfo(5) takes, in which the number of the mount is.
_INFO_BYTES = 512
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
    #: How it is attached, as the kernel writes it: "rw,nosuid".
    options: str
    #: What was mounted, such as /dev/sda1; as the file system names it.
    source: str
    #: The type of the file system: "ext4".
    kind: str

    @property
    def flags(self) -> int:
        """How it is attached, as mount(2) takes it."""
        return sum(_FLAGS.get(option, 0) for option in self.options.split(","))

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed by way of this mount."""
        return self.options.startswith("ro")


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

    def inner_place(self, fd: int, path: str) -> Optional[Tuple[str, str]]:
        """Return the device and the path in its file system of what `fd`, opened at the real path `path`, stands for.

        They are the same wherever the file system is mounted. None if the mount is not in the table.
        """
        mount = self.mount_of(fd)
        return None if mount is None else (mount.device, _joined(mount.root, _below(path, mount.point) or ""))

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
            if candidate != path and is_seen_through(candidate, mount):
                yield candidate

    def of_kinds(self, kinds: Collection[str]) -> Iterator[Mount]:
        """Yield the mounts of file systems of these types, also those that others hide."""
        return (mount for mount in self.mounts if mount.kind in kinds)


def read_mount_table() -> MountTable:
    """Return the table of this process. Raises OSError."""
    return MountTable(os.fsdecode(_content("/proc/self/mountinfo")))


def mount_number(fd: int) -> int:
    """Return the number of the mount through which `fd` was opened; -1 when the kernel does not say."""
    try:
        info = os.open("/proc/self/fdinfo/{}".format(fd), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(info, _INFO_BYTES).partition(b"mnt_id:")[2].split(None, 1)[0])
        finally:
            os.close(info)
    except (OSError, IndexError):
        return -1


def _content(path: str) -> bytes:
    """Return the content of the file, in fewer calls than a file object takes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_all(fd, _MAX_BYTES)
    finally:
        os.close(fd)


def is_inside(path: str, directory: str) -> bool:
    """Return whether `path` is `directory` or below it; both are absolute and normal."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _below(path: str, directory: str) -> Optional[str]:
    """Return the way from `directory` to `path`, empty for the same; None when it is not below it."""
    return path[len(directory.rstrip("/")) :].lstrip("/") if is_inside(path, directory) else None


def _joined(directory: str, below: str) -> str:
    return os.path.join(directory, below) if below else directory


def is_seen_through(path: str, mount: Mount) -> bool:
    """Return whether what is at `path` is seen through that mount, and no other one hides it."""
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
    number, _, device, root, point, options = head.split(" ", 6)[:6]
    kind, source = tail.split(" ", 2)[:2]
    return Mount(int(number), device, _plain(root), _plain(point), options, _plain(source), kind)


def _plain(text: str) -> str:
    """Undo the octal escapes of the kernel."""
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text) if "\\" in text else text
