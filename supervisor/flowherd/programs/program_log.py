"""The log of programs: one JSON object a line, in two files of a bounded size.

Links in the place of a file are not followed. A line that a crash has cut is left out by readers.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flowherd.programs.entry import ProgramEntry, read_entry

#: Directory in an agent's state directory.
DIRECTORY = "programs"
#: The file that is written, and the one before it.
FILE, OLDER_FILE = "ends.jsonl", "ends.1.jsonl"
#: Size from which on a new file is begun, bytes.
MOST_BYTES = 1 << 20
#: How much is read at once at most, bytes.
_READ_BYTES = 2 * MOST_BYTES


class ProgramLog:
    """The log as its writer sees it; there is one writer. It makes the directory, but not that above."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add(self, entry: ProgramEntry) -> None:
        """Append an entry. Raises OSError."""
        line = json.dumps(entry.as_json(), separators=(",", ":")).encode() + b"\n"
        path = self._directory / FILE
        fd = self._open(path)
        try:
            size = os.fstat(fd).st_size
            if size + len(line) > MOST_BYTES and size:
                path.replace(self._directory / OLDER_FILE)
                os.close(fd)
                fd, size = -1, 0
                fd = self._open(path)
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(fd, line) < len(line):
                raise OSError(f"{path} has only a part of an entry; is the disk full?")
        finally:
            if fd >= 0:
                os.close(fd)

    def _open(self, path: Path) -> int:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            os.close(fd)
            raise OSError(f"{path} is not a file of its own; remove it")
        return fd


def read_log(directory: Path) -> list[ProgramEntry]:
    """Return all entries, oldest first; none if there is no log. Raises OSError."""
    return [entry for name in (OLDER_FILE, FILE) for entry in _entries(_content(directory / name, 0)[0])]


@dataclass(frozen=True)
class Position:
    """How far a reader has read: the file's inode, and the number of bytes."""

    inode: int = 0
    offset: int = 0


def end_of_log(directory: Path) -> Position:
    """Return the position behind the last entry."""
    found = _stat(directory / FILE)
    return Position() if found is None else Position(found.st_ino, found.st_size)


def read_on(directory: Path, position: Position) -> tuple[list[ProgramEntry], Position]:
    """Return the entries behind a position, and the position behind them. Raises OSError.

    If two files were begun meanwhile, what is in neither is left out.
    """
    found = _stat(directory / FILE)
    if found is None:
        return [], position
    if (found.st_ino, found.st_size) == (position.inode, position.offset):
        return [], position
    older, start = b"", 0
    if found.st_ino == position.inode and found.st_size >= position.offset:
        start = position.offset
    elif position.inode:
        before = _stat(directory / OLDER_FILE)
        begin = position.offset if before is not None and before.st_ino == position.inode else 0
        older = _content(directory / OLDER_FILE, begin)[0] if before is not None else b""
    content, inode = _content(directory / FILE, start)
    if inode != found.st_ino:
        return [], position  # a new file was begun just now; the next look finds both
    whole = content[: content.rfind(b"\n") + 1]
    return [*_entries(older), *_entries(whole)], Position(inode, start + len(whole))


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _content(path: Path, start: int) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(_READ_BYTES), os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return b"", 0


def _entries(content: bytes) -> Iterator[ProgramEntry]:
    for line in content.splitlines():
        try:
            entry = read_entry(json.loads(line))
        except (ValueError, RecursionError):
            continue
        if entry is not None:
            yield entry
