"""How far the event listener has come, so that the next one can count what was lost between them."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

_FILE = "listener.json"


class ListenerState:
    """The number of the last event that was worked on, and of which supervisord it is."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE
        self._supervisord = _identity(os.getppid())

    def last(self) -> int | None:
        """Return the number of the last event; None if it was another supervisord's."""
        try:
            known = json.loads(self._path.read_bytes())
            return int(known["last"]) if known["supervisord"] == self._supervisord else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def keep(self, last: int | None) -> None:
        """Keep the number of the last event. Raises OSError."""
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        new = self._path.with_suffix(".new")
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps({"supervisord": self._supervisord, "last": last}).encode())
        finally:
            os.close(fd)
        new.replace(self._path)


def _identity(pid: int) -> str:
    """Return what tells a process from all others of this start of the host: pid and start time (proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return f"{pid} {stat.rpartition(')')[2].split()[19]}"
