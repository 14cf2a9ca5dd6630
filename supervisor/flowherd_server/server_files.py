"""The server's files beside its database: the lock of the data directory, and server.json with its address.

A data directory has at most one server. server.json is in the home directory, where other programs of the host find it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loguru import logger

from flowherd.errors import ConfigurationError
from flowherd.private_directory import make_private_directory, replace_private_file
from flowherd.recurring_error import RecurringError

LOCK_FILE = "lock"
#: File in the home directory with {"url", "pid", "data_dir", "reloads"} of the running server; the last one says
#: whether it reads its settings again at SIGHUP.
ADDRESS_FILE = "server.json"
#: Pause between two looks whether the file with the address is still there, seconds.
_WATCH_INTERVAL_S = 2.0


@contextmanager
def locked_directory(directory: Path) -> Iterator[None]:
    """Create `directory` and lock it for this process.

    Raises ConfigurationError if another server has locked it, if it cannot be created, or if it belongs to another
    user.
    """
    try:
        make_private_directory(directory, "data directory")
        fd = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"the data directory {directory} cannot be used: {error}") from error
    try:
        _lock(fd, directory)
        yield
    finally:
        os.close(fd)  # releases the lock; the file stays, because after unlinking it two servers could lock two files


def _lock(fd: int, directory: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        raise ConfigurationError(
            f"the data directory {directory} is in use by another server (pid {holder}); stop it, or choose "
            "another directory with --data-dir"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)


class AddressFile:
    """server.json in `home`, which tells other programs of the host where the server is."""

    def __init__(self, home: Path, url: str, data_dir: Path, *, reloads: bool = False) -> None:
        self._home = home
        self.path = home / ADDRESS_FILE
        self._text = json.dumps({"url": url, "pid": os.getpid(), "data_dir": str(data_dir), "reloads": reloads})

    def write(self) -> None:
        """Write the file, in the place of an earlier server's. Raises ConfigurationError if that is not possible."""
        try:
            make_private_directory(self._home, "home directory")
            replace_private_file(self.path, self._text)
        except OSError as error:
            raise ConfigurationError(f"the server's address cannot be written to {self.path}: {error}") from error

    async def watch(self) -> None:
        """Write the file again whenever another program, such as a cleaner of temporary files, has removed it."""
        writing = RecurringError(f"write {self.path}", logger)
        while True:
            await asyncio.sleep(_WATCH_INTERVAL_S)
            if os.path.lexists(self.path):
                continue
            try:
                self.write()
            except ConfigurationError as error:
                writing.failed(error)
            else:
                writing.recovered()
                logger.warning("{} was removed by another program, and is made again", self.path)

    def remove(self) -> None:
        """Remove the file, unless it is another server's by now."""
        with contextlib.suppress(OSError, ValueError):
            if json.loads(self.path.read_text(encoding="utf-8")).get("pid") == os.getpid():
                self.path.unlink()
