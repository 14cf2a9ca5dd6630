"""The lane's socket beside the database, and who may connect to it: the server's own user and root."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from loguru import logger

from flowherd.lane.messages import SOCKET_FILE
from flowherd.peer_credentials import peer_of
from flowherd.socket_path import short_path

_BACKLOG = 128
_ROOT = 0


class LaneListener:
    """A listening socket in `directory`, which this server has locked, so one that is there is nobody's.

    Raises OSError if it cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory.absolute() / SOCKET_FILE
        self.path.unlink(missing_ok=True)
        with contextlib.ExitStack() as undo, short_path(directory, SOCKET_FILE) as path:
            self.socket = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            os.fchmod(self.socket.fileno(), 0o600)  # before it has a name; bind(2) keeps the mode
            self.socket.bind(path)
            self.socket.listen(_BACKLOG)
            self.socket.setblocking(False)
            undo.pop_all()
        self._identity = self._present_identity()
        #: Users who were refused.
        self._refused: set[int] = set()

    def accept(self) -> socket.socket | None:
        """Return a new connection; None if there is none, or from somebody who may not connect. Raises OSError."""
        try:
            accepted, _ = self.socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        uid = peer_of(accepted).uid
        if uid in (os.geteuid(), _ROOT):
            return accepted
        if uid not in self._refused:
            self._refused.add(uid)
            logger.warning("user {} may not use {}, and was refused", uid, self.path)
        accepted.close()
        return None

    def close(self) -> None:
        """Close the socket and remove its name, unless the name is another socket's by now."""
        if self._present_identity() == self._identity:
            self.path.unlink(missing_ok=True)
        self.socket.close()

    def _present_identity(self) -> tuple[int, int] | None:
        try:
            status = self.path.lstat()
        except OSError:
            return None
        return status.st_dev, status.st_ino
