"""Allows one claim at a time on this host, for backends that do not arbitrate claims themselves.

Older servers accept every Submitted and ignore versions. Between reading that a run is still waiting and reading back
whose claim it carries, no other agent of this host may claim; agents of other hosts cannot be kept out.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def claiming_alone(backend_address: str) -> Iterator[None]:
    """Hold the lock of this user's agents on this host for claims at this backend.

    Raises OSError when the lock file cannot be made.
    """
    fd = os.open(_lock_file(backend_address), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _lock_file(backend_address: str) -> Path:
    """Return the path of the lock file, the same for all agents of a user, whatever their homes are."""
    name = hashlib.sha256(backend_address.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"flowherd-claims-{os.getuid()}-{name}.lock"
