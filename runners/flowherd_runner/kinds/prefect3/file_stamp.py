"""What tells whether a file is still the one that was read."""

import os
from typing import Any, Optional, Tuple

#: Absolute path, time of the last change in nanoseconds, bytes.
Stamp = Tuple[str, int, int]


def stamp(path: Any) -> Optional[Stamp]:
    """Of the file there; None when there is none, or `path` is no path."""
    try:
        status = os.stat(path)
    except (OSError, TypeError):
        return None
    return os.path.abspath(path), status.st_mtime_ns, status.st_size
