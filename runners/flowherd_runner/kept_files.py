"""Makes the files of a living run again when somebody has removed them, such as a cleaner of temporary files.

The runner has them open, so nothing of them is lost: their content is copied from the descriptors. Without the lock an
agent could take the run for dead, without spec.json for one that was being removed, without the directory no end could
be recorded.
"""

import fcntl
import os
import time
from typing import Dict, List

from flowherd_runner.contract.files import JOURNAL_FILE, LOCK_FILE, SPEC_FILE, open_regular

#: Between two looks while the run goes on, seconds.
_INTERVAL_S = 5.0
_BLOCK_BYTES = 1024 * 1024


class KeptFiles:
    """The files of the run in `directory`, whose lock and journal are open as `lock_fd` and `journal_fd`."""

    def __init__(self, directory: str, lock_fd: int, journal_fd: int) -> None:
        self._directory = directory
        self._lock_fd = lock_fd
        self._journal_fd = journal_fd
        #: Descriptors for reading, by name.
        self._open: Dict[str, int] = {}
        #: When to look next (monotonic).
        self.next_look_s = time.monotonic() + _INTERVAL_S
        for name in (SPEC_FILE, JOURNAL_FILE):
            self.keep(name)

    def keep(self, name: str) -> None:
        """Keep this file from now on; without a free descriptor, do not."""
        try:
            self._open[name] = open_regular(self._path(name), os.O_RDONLY)
        except OSError:
            pass

    def look_if_due(self) -> List[str]:
        """Look, if it is time. Return what `make_again` returns."""
        if time.monotonic() < self.next_look_s:
            return []
        return self.make_again()

    def make_again(self) -> List[str]:
        """Make what was removed again, and return its names; what the disk refuses now is tried again later."""
        self.next_look_s = time.monotonic() + _INTERVAL_S
        made = []
        try:
            os.makedirs(self._directory, 0o700, exist_ok=True)
            if not self._has_lock():
                self._lock_again()
                made.append(LOCK_FILE)
            for name in sorted(self._open):
                if not os.path.lexists(self._path(name)):
                    self._copy(name)
                    made.append(name)
        except OSError:
            pass
        return made

    def release_lock(self) -> None:
        """Let others have the run's lock, and so the run's files."""
        fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _has_lock(self) -> bool:
        try:
            return os.path.samestat(os.lstat(self._path(LOCK_FILE)), os.fstat(self._lock_fd))
        except FileNotFoundError:
            return False

    def _lock_again(self) -> None:
        fd = open_regular(self._path(LOCK_FILE), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while an agent looks at it
            os.dup2(fd, self._lock_fd, inheritable=False)
        finally:
            os.close(fd)

    def _copy(self, name: str) -> None:
        """Copy the removed file, and use the copy from now on."""
        temporary = self._path("." + name + ".again")
        fd = open_regular(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        try:
            self._copy_content(self._open[name], fd)
            os.rename(temporary, self._path(name))
            if name == JOURNAL_FILE:
                os.dup2(fd, self._journal_fd, inheritable=False)
            os.dup2(fd, self._open[name], inheritable=False)
        except OSError:
            os.unlink(temporary)
            raise
        finally:
            os.close(fd)

    @staticmethod
    def _copy_content(source: int, target: int) -> None:
        offset = 0
        while True:
            block = os.pread(source, _BLOCK_BYTES, offset)
            if not block:
                return
            offset += len(block)
            while block:
                block = block[os.write(target, block) :]

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)
