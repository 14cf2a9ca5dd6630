"""Notices that the database's files were deleted, moved or replaced while the server has them open.

SQLite does not notice: it goes on in files that nobody will find (https://sqlite.org/howtocorrupt.html, section 4). So
the names are compared with the files that were opened, before and after each write. A file whose content another
program has overwritten keeps its inode. But SQLite writes to the database file only in a checkpoint, which shows in the
WAL's index (https://sqlite.org/walformat.html, section 2): a file that changed without one was changed by others.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from flowherd_server.errors import DatabaseLost

#: Length of the WAL's index that is read, and where in it are the salt of the WAL, and the number of frames that
#: checkpoints have written back and are writing back: salt, nBackfill and nBackfillAttempted.
_INDEX_BYTES = 132
_SALT = slice(32, 40)
_WRITTEN_BACK = slice(96, 100)
_BEING_WRITTEN = slice(128, 132)
#: Where the salt is in the WAL itself.
_SALT_OFFSET = 16


def wal_of(path: Path) -> Path:
    """Return the name of the database's write-ahead log."""
    return path.with_name(f"{path.name}-wal")


def index_of(path: Path) -> Path:
    """Return the name of the index of the write-ahead log."""
    return path.with_name(f"{path.name}-shm")


@dataclass(frozen=True)
class _Content:
    """What changes with the content of the database file, and with checkpoints."""

    stamp: tuple[int, int]
    progress: tuple[bytes, ...]


class DatabaseFiles:
    """The three files of an open database, of which a connection stays open until `release`. For one thread at a time.

    Raises OSError if one of the files is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = os.fspath(path)
        self._inodes = {os.fspath(name): _inode(name) for name in (path, wal_of(path), index_of(path))}
        # Kept open, because closing it would drop SQLite's own locks on the file (fcntl(2)).
        self._index_fd = os.open(index_of(path), os.O_RDONLY | os.O_CLOEXEC)
        self._content = self._present_content()
        #: What has happened to the files; empty as long as they are in their place.
        self.lost = ""
        self._overwritten = False

    @property
    def inodes(self) -> tuple[int, int]:
        """Inodes of the database and of its WAL."""
        return self._inodes[self._name][1], self._inodes[os.fspath(wal_of(self._path))][1]

    def check(self) -> None:
        """Raise DatabaseLost if the files were deleted, moved, replaced or overwritten, now or earlier."""
        if not self.lost:
            try:
                self.lost = self._difference()
            except OSError as error:
                self.lost = f"{self._path} cannot be found any more: {error.strerror}"
        if self.lost:
            raise DatabaseLost(self.lost)

    def check_names(self) -> None:
        """Raise DatabaseLost if a name no longer stands for the file that was opened. For any thread."""
        moved = self.lost or self._moved()
        if moved:
            raise DatabaseLost(moved)

    def _moved(self) -> str:
        for name, inode in self._inodes.items():
            try:
                found = _inode(name)
            except (FileNotFoundError, NotADirectoryError):
                return f"{name} was deleted, or moved with its directory"
            if found != inode:
                return f"{name} was replaced by another file"
        return ""

    def _difference(self) -> str:
        moved = self._moved()
        if moved:
            return moved
        content = self._present_content()
        if content is None:
            return ""
        known, self._content = self._content, content
        if known is not None and content.stamp != known.stamp and content.progress == known.progress:
            self._overwritten = True
            return f"{self._path} was overwritten by another program"
        return ""

    def _present_content(self) -> _Content | None:
        """Return what the file and the index say; None while a checkpoint is under way, which changes the file."""
        before = self._progress()
        found = _stat(self._name)
        if self._progress() != before or before[1] != before[2]:
            return None
        return _Content((found.st_mtime_ns, found.st_size), before)

    def _progress(self) -> tuple[bytes, ...]:
        index = os.pread(self._index_fd, _INDEX_BYTES, 0)
        return index[_SALT], index[_WRITTEN_BACK], index[_BEING_WRITTEN]

    @property
    def may_be_checkpointed(self) -> bool:
        """Whether what SQLite has open is still the database that the WAL belongs to."""
        return not self._overwritten

    def put_aside(self) -> None:
        """Rename a WAL that is left beside another database: SQLite would add what is in it to that one."""
        wal, index = wal_of(self._path), index_of(self._path)
        if not self._is_ours(wal):
            return
        if wal.stat().st_size:
            _put_aside(wal)
        else:
            wal.unlink()
        if self._is_named(index):
            index.unlink()

    def _is_ours(self, wal: Path) -> bool:
        if not self._is_named(wal):
            return False
        with wal.open("rb") as file:
            head = file.read(_SALT_OFFSET + 8)
        return not head or head[_SALT_OFFSET:] == os.pread(self._index_fd, _INDEX_BYTES, 0)[_SALT]

    def _is_named(self, name: Path) -> bool:
        try:
            return _inode(name) == self._inodes[os.fspath(name)]
        except OSError:
            return False

    def release(self) -> None:
        """Close what is open here; for after the last connection."""
        os.close(self._index_fd)


def put_stale_wal_aside(path: Path, inodes: tuple[int, int] | None) -> None:
    """Before the database is opened: put aside a WAL that belongs to an earlier file of its name.

    `inodes` are those of database and WAL when a server last ran; None if not known.
    """
    wal = wal_of(path)
    if inodes is None or not path.exists() or not wal.exists():
        return
    if path.stat().st_ino != inodes[0] and wal.stat().st_ino == inodes[1]:
        _put_aside(wal)


def _put_aside(wal: Path) -> None:
    aside = wal.with_name(f"{wal.name}.set-aside-{time.time_ns()}")
    wal.rename(aside)
    logger.warning("{} belongs to another database than the one that is there now; renamed to {}", wal, aside.name)


def _inode(name: str | Path) -> tuple[int, int]:
    found = _stat(name)
    return found.st_dev, found.st_ino


def _stat(name: str | Path) -> os.stat_result:
    # Of texts, because a Path makes its text anew each time, and this is done eight times in each write.
    return os.stat(name)  # noqa: PTH116
