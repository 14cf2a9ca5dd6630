"""The server's files beside its database: the lock of the data directory, and server.json with its address.

A data directory has at most one server. server.json is in the home directory, where other programs of the host find it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowherd.errors import ConfigurationError
from flowherd.private_directory import make_private_directory

LOCK_FILE = "lock"
#: File in the home directory with {"url", "pid", "data_dir"} of the running server.
ADDRESS_FILE = "server.json"


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


@contextmanager
def published_address(home: Path, url: str, data_dir: Path) -> Iterator[None]:
    """Keep server.json in `home` until the context ends; it is left alone then if another server has replaced it.

    Raises ConfigurationError if it cannot be written.
    """
    path = home / ADDRESS_FILE
    temporary = home / f".{ADDRESS_FILE}.{os.getpid()}"
    text = json.dumps({"url": url, "pid": os.getpid(), "data_dir": str(data_dir)})
    try:
        make_private_directory(home, "home directory")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        raise ConfigurationError(f"the server's address cannot be written to {path}: {error}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            if json.loads(path.read_text(encoding="utf-8")).get("pid") == os.getpid():
                path.unlink()
