"""Hands a text to programs that are started, without writing it where others could read it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from typing import BinaryIO

#: F_ADD_SEALS with F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_WRITE (fcntl(2)).
_ADD_SEALS, _ALL_SEALS = 1033, 0x1 | 0x2 | 0x4 | 0x8


def unnamed_file(content: bytes) -> BinaryIO:
    """Return a file in memory that has no name and that nobody can change, not even those who inherit it.

    Where the kernel has none (memfd_create(2) is refused), it is a temporary file that is removed already. Raises
    OSError.
    """
    try:
        file, seals = os.fdopen(os.memfd_create("flowherd", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b"), _ALL_SEALS
    except OSError:
        file, seals = tempfile.TemporaryFile(), 0  # noqa: SIM115 - the caller closes it
    file.write(content)
    file.flush()
    if seals:
        fcntl.fcntl(file.fileno(), _ADD_SEALS, seals)
    return file
