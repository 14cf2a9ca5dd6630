"""Removes a directory with everything in it, and says what is left of it and why.

Directories of this user that are not writable (what `go mod download` or an unpacked archive leaves) are made writable
first. No link is followed, also none that is put in a directory's place meanwhile: every step is relative to an open
directory, and the way back up is checked. What is below a mount point is never touched: it may be anything, such as a
directory with data that a flow has mounted there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from flowherd.private_directory import user_name

#: Maximum number of reasons that are kept.
_MAX_REASONS = 3
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, kw_only=True)
class Remains:
    """What is left of a directory that could not be removed."""

    #: Space that it takes on the disk, bytes.
    size_bytes: int
    #: Why, as "PATH: reason"; the first few.
    reasons: tuple[str, ...]


def remove_tree(path: Path) -> Remains | None:
    """Remove the directory `path`. Return None if it is gone, else what is left."""
    removal = _Removal(path)
    removal.run()
    if not os.path.lexists(path):
        return None
    return Remains(size_bytes=disk_bytes(path), reasons=tuple(removal.reasons) or (f"{path}: not empty",))


def disk_bytes(path: Path) -> int:
    """Return the space that a directory takes on the disk, bytes, as far as it can be read; enters no link or mount."""
    total = 0
    with contextlib.suppress(RecursionError):  # os.walk before Python 3.12, in a tree of a thousand levels
        for directory, names, file_names in os.walk(path):
            entries = [os.path.join(directory, name) for name in file_names]  # noqa: PTH118 - os.walk yields strings
            names[:] = [name for name in names if not os.path.ismount(os.path.join(directory, name))]  # noqa: PTH118
            for entry in (directory, *entries):
                with contextlib.suppress(OSError):
                    total += os.lstat(entry).st_blocks * 512
    return total


def what_prevents(path: Path) -> str:
    """Return what is most likely to prevent the removal of a directory; empty if nothing is conspicuous."""
    for directory, names, file_names in os.walk(path):
        for name in (*names, *file_names):
            entry = os.path.join(directory, name)  # noqa: PTH118 - os.walk yields strings
            if os.path.ismount(entry):
                return f"a file system is mounted on {entry}"
            with contextlib.suppress(OSError):
                owner = os.lstat(entry).st_uid
                if owner != os.geteuid():
                    return f"{entry} belongs to user {user_name(owner)}"
    return ""


class _Removal:
    """One walk through a tree, with one open directory at a time however deep the tree is."""

    def __init__(self, path: Path) -> None:
        self._top = path
        self.reasons: list[str] = []
        #: Names and identities (device, inode) of the directories from the top to the open one, with what failed there.
        self._way: list[tuple[str, tuple[int, int], set[str]]] = []
        self._fd = -1
        #: Mount of the whole tree, found when the first directory is entered; empty before, and if it is not known.
        self._mount_id = ""

    def run(self) -> None:
        """Remove what can be removed."""
        try:
            self._fd = _open_directory(str(self._top), None)
            self._way = [("", _identity(self._fd), set())]
            while self._way:
                name = self._next_directory()
                self._leave() if name is None else self._enter(name)
        except OSError as error:
            self._note(error)
        finally:
            if self._fd >= 0:
                os.close(self._fd)
        with contextlib.suppress(OSError):
            self._top.rmdir()

    def _next_directory(self) -> str | None:
        """Remove files and empty directories of the open directory; return the first other one, None if there is none.

        Looks again after it has removed something, because a listing may miss entries when the directory changes.
        """
        failed, is_changed = self._way[-1][2], True
        while is_changed:
            is_changed = False
            with os.scandir(self._fd) as entries:
                for entry in entries:
                    if entry.name in failed:
                        continue
                    if not entry.is_dir(follow_symlinks=False):
                        self._unlink(entry.name)
                    elif not self._removed_empty(entry.name):
                        return entry.name
                    is_changed = True
        return None

    def _removed_empty(self, name: str) -> bool:
        """Try to remove a directory without entering it: an empty one that is no mount point (rmdir(2))."""
        try:
            os.rmdir(name, dir_fd=self._fd)
        except OSError:
            return False
        return True

    def _unlink(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._fd)
        except OSError as error:
            self._fail(name, error)

    def _enter(self, name: str) -> None:
        try:
            fd = _open_directory(name, self._fd)
        except OSError as error:
            self._fail(name, error)
            return
        self._mount_id = self._mount_id or _mount_id(self._fd)
        if _mount_id(fd) != self._mount_id:
            os.close(fd)
            self._fail(name, OSError(errno.EBUSY, "a file system is mounted there"))
            return
        os.close(self._fd)
        self._fd = fd
        self._way.append((name, _identity(fd), set()))

    def _leave(self) -> None:
        name, _, _ = self._way.pop()
        if not self._way:
            return
        fd = os.open("..", _DIRECTORY, dir_fd=self._fd)
        os.close(self._fd)
        self._fd = fd
        if _identity(fd) != self._way[-1][1]:
            raise OSError(errno.EBUSY, "was moved while it was being removed", name)
        try:
            os.rmdir(name, dir_fd=fd)
        except OSError as error:
            self._fail(name, error)

    def _fail(self, name: str, error: OSError) -> None:
        """Leave this entry of the open directory; its parents are then not empty, which is no reason of its own."""
        self._way[-1][2].add(name)
        if error.errno == errno.ENOTEMPTY:
            return
        status = None
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            owner = os.fstat(self._fd) if not stat.S_ISDIR(status.st_mode) else status
            if owner.st_uid != os.geteuid():
                error = OSError(error.errno, f"{error.strerror}, it belongs to user {user_name(owner.st_uid)}")
        self._note(error, name)

    def _note(self, error: OSError, name: str = "") -> None:
        if len(self.reasons) < _MAX_REASONS:
            path = self._top.joinpath(*(part for part, _, _ in self._way), name)
            self.reasons.append(f"{path}: {error.strerror or error}")


def _open_directory(name: str, parent: int | None) -> int:
    """Open a directory and make it writable if it is this user's. Raises OSError."""
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        _allow_owner(name, parent)
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    status = os.fstat(fd)
    if status.st_uid == os.geteuid() and status.st_mode & 0o700 != 0o700:
        with contextlib.suppress(OSError):  # the removal then says why it fails
            os.fchmod(fd, stat.S_IMODE(status.st_mode) | 0o700)
    return fd


def _allow_owner(name: str, parent: int | None) -> None:
    """Give this user all rights on a directory that may not be opened for reading. Raises OSError."""
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        os.chmod(f"/proc/self/fd/{fd}", 0o700)  # noqa: PTH101 - fchmod(2) refuses such a descriptor
    finally:
        os.close(fd)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _mount_id(fd: int) -> str:
    """Return the mount that the descriptor is on (proc(5), /proc/PID/fdinfo); empty if it is not known."""
    with contextlib.suppress(OSError, StopIteration), open(f"/proc/self/fdinfo/{fd}") as file:  # noqa: PTH123
        return next(line.split()[1] for line in file if line.startswith("mnt_id:"))
    return ""
