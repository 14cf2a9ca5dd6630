"""Stamps of files, which show whether a file is still the one that was read."""

import os
from typing import Any, Optional, Tuple

#: Absolute path, time of the last change (nanoseconds), size (bytes).
Stamp = Tuple[str, int, int]


def stamp(path: Any) -> Optional[Stamp]:
    """Return the stamp of the file at `path`; None when there is none, or `path` is not a path."""
    try:
        status = os.stat(path)
    except (OSError, TypeError):
        return None
    return os.path.abspath(path), status.st_mtime_ns, status.st_size
