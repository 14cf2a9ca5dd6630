"""Requests from the operator: pause, resume, stop. Made from any thread, read by the poll loop.

Knows neither who makes them nor how the agent carries them out.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from flowherd.agent.health import ClaimPause
from flowherd.agent.shutdown import ShutdownRequest
from flowherd.config.reload_report import ReloadReport, SettingsSource
from flowherd.config.settings import OnStop

#: File in the state directory that exists while the agent is paused.
PAUSE_FILE = "paused"


class Control:
    """What the operator has asked of this agent; `changed` is called after each new request."""

    def __init__(self, changed: Callable[[], None]) -> None:
        #: Tells this start of the agent from an earlier one.
        self.instance = uuid.uuid4().hex
        #: Set by a program that starts the agent again when asked to.
        self.may_restart = False
        #: Where to read the settings again; set by a program that has read them itself.
        self.settings_source: SettingsSource | None = None
        #: What to do with the runs when a stop request does not say.
        self.usual_stop: OnStop = "detach"
        #: Reads the settings again and returns what came of it; None while the agent cannot do that. The argument is
        #: what caused it, for the log.
        self.reload: Callable[[str], ReloadReport] | None = None
        self._changed = changed
        self._paused = False
        self._pause_file: Path | None = None
        self._shutdown_request: ShutdownRequest | None = None
        self._keep_runs = False
        self._lock = threading.Lock()

    def remember_pause_in(self, path: Path) -> None:
        """Keep a pause across restarts of the agent, in a file that exists while it is paused."""
        with self._lock:
            self._pause_file = path
            self._paused = path.exists()

    def keep_pause_file(self) -> None:
        """Make the file that marks the pause again if it was removed; without it the next start would claim."""
        with self._lock:
            if self._paused and self._pause_file is not None and not self._pause_file.exists():
                with contextlib.suppress(OSError):  # tried again at the next poll
                    self._pause_file.touch(mode=0o600)

    @property
    def paused(self) -> bool:
        """Whether nothing more is to be claimed until the operator resumes."""
        return self._paused

    @property
    def shutdown_request(self) -> ShutdownRequest | None:
        """How to stop, once that was requested."""
        return self._shutdown_request

    def pause(self) -> None:
        """Stop claiming; runs go on. Raises OSError when the pause cannot be written down."""
        with self._lock:
            if self._pause_file is not None:
                self._pause_file.touch(mode=0o600)
            self._paused = True
        self._changed()

    def resume(self) -> None:
        """Claim again. Raises OSError when the file that marks the pause cannot be removed."""
        with self._lock:
            if self._pause_file is not None:
                self._pause_file.unlink(missing_ok=True)
            self._paused = False
        self._changed()

    def shut_down(self, request: ShutdownRequest) -> bool:
        """Ask the agent to stop this way. Returns False if it is already stopping."""
        with self._lock:
            if self._shutdown_request is not None:
                return False
            if request.on_stop is None:
                request = replace(request, on_stop="detach" if self._keep_runs else self.usual_stop)
            self._shutdown_request = request
        self._changed()
        return True

    def keep_runs_at_stop(self) -> None:
        """Leave the runs at the next stop, whatever the settings say: the agent is about to be started again."""
        with self._lock:
            self._keep_runs = True

    def claim_pause(self) -> ClaimPause | None:
        """Return why nothing is to be claimed; None if nothing prevents it."""
        request = self._shutdown_request
        if request is not None:
            return ClaimPause(word=request.word, reason=f"the agent is {request.word}")
        if self._paused:
            return ClaimPause(word="paused", reason="paused: claims nothing until `flowherd resume`")
        return None
