"""Run directories that are made and flushed before there is a run, so that an intent costs one flush of the disk.

A blank is a directory below `blank/` with the files that a run has from the start, all of them empty. A run takes one
by rename(2) and writes its spec into it. The rename is not flushed, so after a power cut the directory may be found
under its old name, with the spec in it: `recover`. Agents of 0.1.0 leave `blank/` alone.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from pathlib import Path

from loguru import logger

from flowherd.host.store.remove_tree import remove_tree
from flowherd.host.store.state_names import BLANK_DIRECTORY, RUNS_DIRECTORY
from flowherd.recurring_error import RecurringError
from flowherd.values import checked_id
from flowherd_runner.contract import files

#: Number of blanks to keep. More runs at a time than that make their directories themselves.
_NUMBER = 4
#: How long no run must have asked for one before more are made, seconds: runs that start wait for the same disk.
_REST_S = 0.2


class BlankDirectories:
    """The blanks of one state directory; for any thread."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / BLANK_DIRECTORY
        self._runs = state_dir / RUNS_DIRECTORY
        self._ready: list[Path] = []
        self._made = 0
        #: When a run last asked for one (monotonic).
        self._asked_s = 0.0
        self._lock = threading.Lock()
        self._filling = threading.Lock()
        self._making = RecurringError(f"prepare run directories in {self._path}", logger)

    def take(self, target: Path) -> bool:
        """Move a blank to `target`, where nothing may be. Returns False if there is none that can be used."""
        with self._lock:
            self._asked_s = time.monotonic()
            blank = self._ready.pop() if self._ready else None
        if blank is None or os.path.lexists(target):
            return False
        try:
            blank.rename(target)
        except OSError:  # a cleaner of temporary files has removed it, say
            return False
        return True

    def refill(self) -> None:
        """Make those that are missing, unless a run has asked for one just now or does so meanwhile."""
        with self._filling:
            while len(self._ready) < _NUMBER and time.monotonic() - self._asked_s >= _REST_S:
                try:
                    blank = self._make()
                except OSError as error:
                    self._making.failed(error)
                    return
                self._making.recovered()
                with self._lock:
                    self._ready.append(blank)

    def recover(self) -> None:
        """Move directories that a run had taken before a power cut to their place, and remove all others.

        To be called once, before anything is taken. An entry that cannot be moved or removed is left and logged.
        """
        with contextlib.suppress(FileNotFoundError):
            for entry in sorted(self._path.iterdir()):
                try:
                    self._recover(entry)
                except OSError as error:
                    logger.warning("Left alone in {}: {}", self._path, error)

    def _recover(self, entry: Path) -> None:
        if not stat.S_ISDIR(entry.lstat().st_mode):
            return
        run_id = _run_id_in(entry)
        if run_id is not None and not os.path.lexists(self._runs / run_id):
            logger.warning("A power cut left the directory of run {} as {}", run_id, entry, action="adopt")
            entry.rename(self._runs / run_id)
            files.sync_directory(str(self._runs))
        else:
            remove_tree(entry)

    def _make(self) -> Path:
        if not self._path.is_dir():
            self._path.mkdir(mode=0o700)
            files.sync_directory(str(self._path.parent))
        self._made += 1
        blank = self._path / str(self._made)
        if os.path.lexists(blank):
            remove_tree(blank)
        blank.mkdir(mode=0o700)
        files.prepare_names(str(blank))
        files.sync_directory(str(blank))
        # First where blanks were moved to: the flush that follows makes their old names disappear.
        files.sync_directory(str(self._runs))
        files.sync_directory(str(self._path))
        return blank


def _run_id_in(directory: Path) -> str | None:
    spec = files.read_unnamed(str(directory), files.SPEC_FILE)
    if spec is None:
        with contextlib.suppress(OSError, ValueError):
            spec = files.read_json(str(directory), files.SPEC_FILE)
    run_id = None if spec is None else spec.get("flow_run_id")
    try:
        return checked_id(run_id) if isinstance(run_id, str) else None
    except ValueError:
        return None
