"""Copies a database file by SQLite's online backup: one state of it, also while other processes write to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from flowherd.errors import ConfigurationError

#: Pages to copy between two calls of the progress function.
_PAGES = 5_000
_BUSY_TIMEOUT_S = 10.0
#: Room to leave beside the copy, bytes.
_SPARE_BYTES = 64 * 1024 * 1024
#: Minimum pause between two reports, seconds.
_REPORT_S = 2.0


class Progress:
    """Reports how far a long piece of work has come, at most every two seconds.

    `report` is called with the share that is done, from 0 to 1, and the seconds that the rest takes at this speed.
    """

    def __init__(self, report: Callable[[float, float], None]) -> None:
        self._report = report
        self._began_s = self._reported_s = time.monotonic()

    def __call__(self, share: float) -> None:
        """Note how much is done."""
        now_s = time.monotonic()
        if now_s - self._reported_s >= _REPORT_S and share > 0:
            self._reported_s = now_s
            self._report(share, (now_s - self._began_s) * (1 - share) / share)


def copy_database(source: Path, target: Path, progress: Progress, *, thorough: bool = False) -> None:
    """Copy the database `source` to `target`, which only its owner may read, replacing what is there.

    The copy is checked and on the disk before it gets its name, so there is never half a copy of that name. `thorough`
    compares tables and indexes too.

    Raises ConfigurationError if there is no room for it, or if it cannot be written or read.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        _check_room(source, target)
        try:
            part.unlink(missing_ok=True)
            # A new file, because another user could have put one there that is not only ours to read.
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            _copy(source, part, progress)
            _check(part, thorough)
            _sync(part)
            part.replace(target)
            _sync(target.parent)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(f"{source} cannot be copied to {target}: {error}") from error


def _check_room(source: Path, target: Path) -> None:
    wal = source.with_name(source.name + "-wal")
    needed = source.stat().st_size + (wal.stat().st_size if wal.exists() else 0) + _SPARE_BYTES
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise ConfigurationError(
            f"there is no room for a copy of {source} in {target.parent}: it needs {megabytes(needed)}, and "
            f"{megabytes(free)} are free"
        )


def megabytes(size: int) -> str:
    """Write a number of bytes in megabytes."""
    return f"{size / 1_000_000:,.1f} MB"


def _copy(source: Path, part: Path, progress: Progress) -> None:
    with (
        contextlib.closing(
            sqlite3.connect(f"{source.resolve().as_uri()}?mode=rw", uri=True, timeout=_BUSY_TIMEOUT_S)
        ) as reading,
        contextlib.closing(sqlite3.connect(part)) as writing,
    ):
        # One read transaction for all steps: otherwise each change by another process starts the copy again.
        reading.isolation_level = None
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
        reading.backup(writing, pages=_PAGES, progress=lambda _status, left, total: progress(1 - left / max(total, 1)))
        # Of a copy in WAL mode, two more files would be part.
        writing.execute("PRAGMA journal_mode=DELETE")


def _check(part: Path, thorough: bool) -> None:
    with contextlib.closing(sqlite3.connect(part)) as connection:
        found = connection.execute("PRAGMA integrity_check(1)" if thorough else "PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(f"the copy is damaged, and so most likely is the database: {found}")


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
