"""Reads the log of supervisord's programs for an agent's metrics and notifications.

The log is written by supervisord's event listener in the agent's state directory. Without it this costs one look at a
file now and then.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

from loguru import logger

from flowherd.host.host_notifications import HostNotifications
from flowherd.metrics.programs import ProgramCounts
from flowherd.metrics.tally import Tally
from flowherd.notify.programs import condition_key, notice_of_entry, recovery
from flowherd.programs.entry import RUNNING, STOPPED, ProgramEntry
from flowherd.programs.program_log import DIRECTORY, Position, end_of_log, read_log, read_on
from flowherd.recurring_error import RecurringError

#: Pause between two looks, seconds.
_LOOK_S = 5.0
#: File in the state directory that says how far the log was read.
_POSITION_FILE = "programs.position"


class ProgramWatch:
    """What one agent reads in the log. `tick` is for one thread."""

    def __init__(self, state_dir: Path, tally: Tally, notifications: HostNotifications | None, settle_s: float) -> None:
        """`settle_s` is how long a program must run until it counts as well again, seconds."""
        self._directory = state_dir / DIRECTORY
        self._position_file = state_dir / _POSITION_FILE
        self._counts = ProgramCounts(tally)
        self._notifications = notifications
        self._settle_s = settle_s
        self._position: Position | None = None
        #: Since when programs run that were not well, seconds since the epoch.
        self._running: dict[str, float] = {}
        self._next_look_s = 0.0
        self._reading = RecurringError("read the log of supervisord's programs", logger)

    def tick(self) -> None:
        """Look for new entries, if it is time to. Called again and again once the state directory is open."""
        if time.monotonic() < self._next_look_s:
            return
        self._next_look_s = time.monotonic() + _LOOK_S
        try:
            self._look()
        except Exception as error:  # whatever it is, the agent goes on
            self._reading.failed(error)
        else:
            self._reading.recovered()

    def _look(self) -> None:
        if self._position is None:
            self._position = self._begin()
        entries, position = read_on(self._directory, self._position)
        for entry in entries:
            self._counts.add(entry)
            self._notice(entry)
        self._notice_recoveries()
        if position != self._position:
            # After the notifications, which are rather sent twice than not.
            self._position = position
            self._keep(position)

    def _begin(self) -> Position:
        """Return where to go on; what an agent finds at its very first look is history."""
        before = read_log(self._directory)
        self._counts.begin(before)
        self._running = {each.program: each.at for each in before if each.what == RUNNING}
        try:
            known = json.loads(self._position_file.read_bytes())
            return Position(inode=int(known["inode"]), offset=int(known["offset"]))
        except (OSError, ValueError, TypeError, KeyError):
            position = end_of_log(self._directory)
        if self._directory.is_dir():
            self._keep(position)
        return position

    def _keep(self, position: Position) -> None:
        new = self._position_file.with_suffix(".new")
        new.write_text(json.dumps(vars(position)), encoding="ascii")
        new.replace(self._position_file)

    def _notice(self, entry: ProgramEntry) -> None:
        if self._notifications is None or not entry.program:
            return
        self._running.pop(entry.program, None)
        if entry.what == RUNNING:
            self._running[entry.program] = entry.at
            return
        key = condition_key(entry.program)
        known = self._notifications.known(key)
        if entry.what == STOPPED and known is not None:
            self._notifications.forget(key)
        elif (notice := notice_of_entry(entry, socket.gethostname(), known)) is not None:
            self._notifications.tell(key, notice)

    def _notice_recoveries(self) -> None:
        if self._notifications is None:
            return
        for program, since in list(self._running.items()):
            if time.time() - since < self._settle_s:
                continue
            del self._running[program]
            key = condition_key(program)
            if (known := self._notifications.known(key)) is not None:
                self._notifications.tell(key, recovery(program, socket.gethostname(), known))
