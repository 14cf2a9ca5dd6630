"""The listening socket that a service manager passes to the agent for its API (sd_listen_fds(3), socket activation).

The manager keeps the socket open while the agent is started again, so requests wait meanwhile. The descriptor that was
passed stays open, because a restart in place takes it over; the agent serves on a duplicate.
"""

from __future__ import annotations

import os
import socket

#: The first descriptor that is passed.
_FIRST = 3
#: The name of the socket among several (FileDescriptorName=).
_NAME = "api"


def passed_listener() -> socket.socket | None:
    """Return the listening socket that was passed to this process; None if there is none.

    The only one, or the one whose name is "api". Raises OSError if it is not open.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    number, names = os.environ.get("LISTEN_FDS", ""), os.environ.get("LISTEN_FDNAMES", "").split(":")
    if not number.isdigit() or int(number) == 0:
        return None
    index = names.index(_NAME) if _NAME in names[: int(number)] else 0 if int(number) == 1 else None
    if index is None:
        return None
    return socket.socket(fileno=os.dup(_FIRST + index))


def place_of(listener: socket.socket) -> tuple[str, str]:
    """Return the host that a listening socket is bound to, and its address as people write it.

    The host of a socket in the file system is localhost: its mode says who may use it.
    """
    bound = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return "localhost", f"unix:{bound}"
    host, port = bound[:2]
    return host, f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
