"""Who is at the other end of a Unix socket."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

#: struct ucred: pid, uid, gid (unix(7)).
_CREDENTIALS = struct.Struct("=iII")


class Peer(NamedTuple):
    """A process, as the kernel noted it at connect(2) or listen(2)."""

    #: 0 if it is in a pid namespace that is not below this process's.
    pid: int
    uid: int


def peer_of(connected: socket.socket) -> Peer:
    """Return who is at the other end (unix(7), SO_PEERCRED; Linux only). Raises OSError."""
    pid, uid, _ = _CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(pid, uid)
