"""What a person has asked of the agent: to pause, to go on, to leave and how. Asked from any thread, read by the loop.

Knows neither who asks nor how the agent does it.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from flowherd.agent.health import ClaimPause
from flowherd.config.settings import OnStop


@dataclass(frozen=True, kw_only=True)
class Departure:
    """How the agent is to leave."""

    #: What becomes of its runs; None is what the agent does with them at every stop.
    on_stop: OnStop | None = None
    #: For "drain": how long the runs may go on; None is what its settings say.
    deadline_s: float | None = None
    #: Start again in the same process afterwards.
    again: bool = False

    @property
    def word(self) -> str:
        """What the agent is doing then."""
        return "restarting" if self.again else "draining" if self.on_stop == "drain" else "stopping"


class Control:
    """The wishes of whoever operates the agent; `changed` is called after each new one."""

    def __init__(self, changed: Callable[[], None]) -> None:
        #: Tells this start of the agent from an earlier one.
        self.instance = uuid.uuid4().hex
        #: Set by a program that starts the agent again when it is asked to.
        self.may_restart = False
        #: What becomes of the runs where nobody says.
        self.usual_stop: OnStop = "detach"
        self._changed = changed
        self._paused = False
        self._pause_file: Path | None = None
        self._departure: Departure | None = None
        self._keep_runs = False
        self._lock = threading.Lock()

    def remember_pause_in(self, path: Path) -> None:
        """Keep the pause over a restart, however the agent ended: in a file that is there while paused."""
        with self._lock:
            self._pause_file = path
            self._paused = path.exists()

    @property
    def paused(self) -> bool:
        """Whether nothing more is to be claimed until somebody resumes."""
        return self._paused

    @property
    def departure(self) -> Departure | None:
        """How to leave, once somebody has asked for it."""
        return self._departure

    def pause(self) -> None:
        """Claim nothing more; what runs goes on. Raises OSError when that cannot be written down."""
        with self._lock:
            if self._pause_file is not None:
                self._pause_file.touch(mode=0o600)
            self._paused = True
        self._changed()

    def resume(self) -> None:
        """Claim again. Raises OSError when the pause that is written down cannot be taken away."""
        with self._lock:
            if self._pause_file is not None:
                self._pause_file.unlink(missing_ok=True)
            self._paused = False
        self._changed()

    def leave(self, departure: Departure) -> bool:
        """Leave so; False when the agent is leaving already, which stands."""
        with self._lock:
            if self._departure is not None:
                return False
            if departure.on_stop is None:
                departure = replace(departure, on_stop="detach" if self._keep_runs else self.usual_stop)
            self._departure = departure
        self._changed()
        return True

    def keep_runs_at_stop(self) -> None:
        """Whoever stops the agent next starts it again: leave the runs, whatever the settings say."""
        with self._lock:
            self._keep_runs = True

    def claim_pause(self) -> ClaimPause | None:
        """Why nothing is to be claimed, if so."""
        departure = self._departure
        if departure is not None:
            return ClaimPause(word=departure.word, reason=f"the agent is {departure.word}")
        if self._paused:
            return ClaimPause(word="paused", reason="paused: claims nothing until `flowherd resume`")
        return None
