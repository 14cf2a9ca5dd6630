"""How long a command that follows something waits for a server that does not answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.errors import BackendUnavailable

#: How long to wait for a backend that does not answer, seconds.
PATIENCE_S = 120.0
#: The same for a server that was stopped in an orderly way: one that is restarted is back by then.
STOPPED_PATIENCE_S = 10.0


class Silence:
    """The time in which a server has not answered.

    `on_silence` is called when it begins. `is_stopped` says whether the server has ended and has said so.
    """

    def __init__(
        self,
        on_silence: Callable[[BackendUnavailable], None] = lambda _error: None,
        is_stopped: Callable[[], bool] = lambda: False,
        *,
        stopped_patience_s: float = STOPPED_PATIENCE_S,
    ) -> None:
        self._on_silence = on_silence
        self._is_stopped = is_stopped
        self._stopped_patience_s = stopped_patience_s
        self._since_s: float | None = None

    def end(self) -> None:
        """Record that the server has answered."""
        self._since_s = None

    def go_on(self, error: BackendUnavailable) -> None:
        """Record that it does not answer. Raises CommandError if it was stopped, `error` if it takes too long."""
        now_s = time.monotonic()
        if self._since_s is None:
            self._since_s = now_s
            self._on_silence(error)
        silent_s = now_s - self._since_s
        if silent_s > self._stopped_patience_s and self._is_stopped():
            raise CommandError(
                "the server was stopped; runs may go on, and on their host `flowherd logs -f RUN` reads their journals",
                exit_codes.UNREACHABLE,
            )
        if silent_s > PATIENCE_S:
            raise error


def stop_check(server_file: Path, address: str) -> Callable[[], bool]:
    """Return what tells whether the embedded server at `address` was stopped.

    It then removes server.json, which it leaves when it crashes, or another server has written its own. Never true of
    a server that is not this home's.
    """
    if _announced(server_file) != address:
        return lambda: False
    return lambda: _announced(server_file) != address


def _announced(server_file: Path) -> str | None:
    try:
        return str(json.loads(server_file.read_bytes())["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
