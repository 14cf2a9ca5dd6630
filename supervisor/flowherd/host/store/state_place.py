"""Which agent has a state directory whose files are not there any more.

An agent keeps a socket with an abstract name (unix(7)) that follows from the directory's path. No cleaner of files can
remove it, it is gone with the agent, and the kernel says whose it is, which the agent's descriptors, readable by root
alone, do not.
"""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

from flowherd.host.processes.flock import removed_from
from flowherd.host.store.state_names import LOCK_FILE
from flowherd.peer_credentials import peer_of

#: Connections are never accepted; each question takes one.
_BACKLOG = 128


def mark_place(path: Path) -> int | None:
    """Mark the state directory as this process's until the descriptor that is returned is closed.

    None if another process has the name. Nothing depends on it as long as the directory is there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as marking:
        try:
            marking.bind(_name(path))
            marking.listen(_BACKLOG)
        except OSError:
            return None
        return marking.detach()


def had_removed(path: Path) -> tuple[int, Path] | None:
    """Return the pid of another process that has the state directory, or its lock file, and which of them was removed.

    None if neither was. Agents of 0.1.0 do not mark the directory, but their descriptors can be read.
    """
    for name in (path, path / LOCK_FILE):
        if not os.path.lexists(name):
            pid = (_marked_by(path) if name == path else None) or next(iter(removed_from(name)), None)
            if pid is not None:
                return pid, name
    return None


def _marked_by(path: Path) -> int | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(_name(path))
            peer = peer_of(asking)
        except OSError:
            return None
    return peer.pid if peer.uid == os.geteuid() and peer.pid != os.getpid() else None


def _name(path: Path) -> bytes:
    key = f"{os.geteuid()}:{path.resolve()}".encode(errors="surrogateescape")
    return b"\0flowherd-state-" + hashlib.sha256(key).hexdigest()[:32].encode()
