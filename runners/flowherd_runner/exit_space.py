"""Space on the disk for a run's exit record, which is reserved at the start, so that a full disk hides no end."""

import ctypes
import errno
import os
from typing import Any

from flowherd_runner.contract.files import EXIT_FILE, reserve_json

#: More than an exit record with the most leftovers and the longest texts takes.
_BYTES = 64 * 1024
#: Reserve beyond the end of the file (linux/falloc.h).
_KEEP_SIZE = 1
_libc = ctypes.CDLL(None, use_errno=True)
#: None where the C library has neither.
_fallocate: Any = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)


def reserve_exit_record(directory: str) -> None:
    """Reserve space for the exit record of the run in `directory`. Raises OSError when there is none."""
    reserve_json(directory, EXIT_FILE, _reserve)


def _reserve(fd: int) -> None:
    """Reserve space for the beginning of an empty file, which stays empty if its file system can do that."""
    if _fallocate is not None:
        if _fallocate(fd, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(_BYTES)) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINTR):
            raise OSError(number, os.strerror(number))
    os.posix_fallocate(fd, 0, _BYTES)
