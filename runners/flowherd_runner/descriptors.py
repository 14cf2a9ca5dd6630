"""Receives messages that carry descriptors (SCM_RIGHTS, unix(7)). The receiver of a message must close them."""

import array
import socket
from typing import List, NamedTuple

#: More than any message should carry, so that surplus ones are noticed and closed.
MAX_FDS = 8


class Received(NamedTuple):
    """One message; no data and no descriptors mean end of file."""

    data: bytes
    fds: List[int]
    #: Whether it was longer, or carried more descriptors.
    cut: bool


def receive(channel: socket.socket, max_bytes: int) -> Received:
    """Receive one message of at most `max_bytes`. Raises OSError."""
    data, ancillary, flags, _ = channel.recvmsg(
        max_bytes, socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return Received(data, list(fds), cut=bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)))


def send(channel: socket.socket, data: bytes, fds: List[int]) -> None:
    """Send one message with descriptors, which the caller must still close. Raises OSError."""
    channel.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
