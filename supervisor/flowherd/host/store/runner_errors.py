"""What a runner wrote about its own failure, in a file of the run's directory."""

from __future__ import annotations

import os
from pathlib import Path

from flowherd_runner.contract import files

#: Longest part of the file that is of use in a message, characters.
_MAX_CHARS = 500


def runner_errors(directory: Path) -> str:
    """Return the end of what was written; empty if nothing was, or it cannot be read."""
    try:
        path = directory / files.RUNNER_ERRORS_FILE
        with os.fdopen(files.open_regular(str(path), os.O_RDONLY), "rb") as file:
            file.seek(max(0, path.lstat().st_size - 4 * _MAX_CHARS))
            errors = file.read(4 * _MAX_CHARS).decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return errors[-_MAX_CHARS:]


def last_error(errors: str) -> str:
    """Return the last line of these errors, which of a traceback is the error itself; empty if there is none."""
    return errors.splitlines()[-1].strip() if errors else ""
