"""Makes what is mounted read-only, all but a list: the root directory of a sealed run, and /sys of every run."""

import errno
import os
from typing import Callable, Iterable, Iterator, List, NamedTuple, Optional

from flowherd_runner.isolation import system_calls
from flowherd_runner.isolation.mount_table import Mount, MountTable, is_inside, read_mount_table
from flowherd_runner.isolation.system_calls import ATTR_RDONLY, MS_BIND, MS_RDONLY, MS_REMOUNT
from flowherd_runner.osapi import file_identity

#: What no write list opens, neither by an entry in it nor by one above it.
NOT_BY_LIST = ("/sys", "/proc", "/dev")


class Writable(NamedTuple):
    """A file or directory that can be changed."""

    #: Opened before anything was mounted.
    fd: int
    path: str
    #: Whether a mount of its own is at that path already.
    is_mounted: bool


def make_read_only(path: str) -> None:
    """Make the mount at `path`, and all below it, read-only. Raises OSError."""
    try:
        system_calls.set_mount_attributes(path, on=ATTR_RDONLY, recursive=True)
    except OSError as error:
        if error.errno != errno.ENOSYS:  # before Linux 5.12, one after the other
            raise
        for mount in read_mount_table().mounts:
            if is_inside(mount.point, path):
                _remount(mount, mount.flags | MS_RDONLY)


def restrict_writing(
    writable: List[Writable], always: List[str], before: MountTable, missing: Callable[[str, str], None]
) -> None:
    """Make everything read-only but what is listed; `always` are mounts of the run's own.

    What was read-only in the table `before` stays so. `missing(what, why)` is called for each that cannot be changed.
    Raises OSError if the rest cannot be made read-only.
    """
    open_ends = []
    for one in writable:
        mount = before.mount_of(one.fd)
        if mount is not None and mount.read_only:
            missing("writing to {}".format(one.path), "it is mounted read-only")
            continue
        if not one.is_mounted:
            system_calls.bind_on_itself(one.fd)
        open_ends.append(one)
    make_read_only("/")
    for path in always:
        _make_writable(path)
    for one in open_ends:
        _open_up(one, before, missing)


def close_again(paths: Iterable[str], opened: List[str]) -> None:
    """Make those of the real paths read-only that lie in one of the `opened` paths, and are not listed themselves.

    An entry for "/" is meant for all of it. Raises OSError.
    """
    for path in dict.fromkeys(paths):
        around = [one for one in opened if one != "/" and is_inside(path, one)]
        if not around or path in opened:
            continue
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            system_calls.bind_on_itself(fd)
        finally:
            os.close(fd)
        make_read_only(path)
        for one in opened:
            if is_inside(one, path):
                _make_writable(one)


def _open_up(one: Writable, before: MountTable, missing: Callable[[str, str], None]) -> None:
    for path in (one.path, *_submounts(one.path, before)):
        try:
            _make_writable(path, one.fd if path == one.path else None)
        except OSError as error:
            if path != one.path and error.errno == errno.ENOENT:  # covered since, such as one in the host's /tmp
                continue
            missing("writing to {}".format(path), "{}: {}".format(error.filename, error.strerror))


def _submounts(path: str, before: MountTable) -> Iterator[str]:
    for mount in before.mounts:
        if mount.point == path or not is_inside(mount.point, path) or mount.read_only:
            continue
        if not any(is_inside(mount.point, other) for other in NOT_BY_LIST):
            yield mount.point


def _make_writable(path: str, must_be: Optional[int] = None) -> None:
    """Let the mount at the real path `path` be changed; with `must_be`, only if it is the file of that descriptor.

    Raises OSError, also if a link leads elsewhere by now.
    """
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        is_other = must_be is not None and file_identity(fd) != file_identity(must_be)
        if is_other or os.readlink("/proc/self/fd/{}".format(fd)) != path:
            raise OSError(errno.ESTALE, "it was replaced meanwhile", path)
        try:
            system_calls.set_mount_attributes(fd, off=ATTR_RDONLY)  # of a mount only, not of a path inside one
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            mount = read_mount_table().mount_of(fd)
            if mount is not None and mount.point == path:
                _remount(mount, mount.flags & ~MS_RDONLY)
    finally:
        os.close(fd)


def _remount(mount: Mount, flags: int) -> None:
    system_calls.mount(None, mount.point, None, MS_REMOUNT | MS_BIND | flags)
