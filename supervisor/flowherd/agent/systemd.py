"""Tells systemd how the agent is (sd_notify(3)). Without systemd, does nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import time

#: How long to wait for room in the manager's queue, seconds.
_SEND_TIMEOUT_S = 0.5


def notify_ready() -> None:
    """Report that the agent works."""
    notify("READY=1")


def notify_reloading() -> None:
    """Report that the agent reads its settings again; `notify_ready` is to follow (sd_notify(3), MONOTONIC_USEC)."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def notify_stopping(*, will_start_again: bool) -> None:
    """Report that the agent stops.

    For systemd a unit that is STOPPING has to end; one that is RELOADING becomes ready again (sd_notify(3)).
    """
    if will_start_again:
        notify_reloading()
    else:
        notify("STOPPING=1")


def notify(message: str) -> None:
    """Send one message such as READY=1, STOPPING=1 or WATCHDOG=1 to the service manager, if one listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # A manager that has ended, or that reads nothing, is no reason to stop working.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.settimeout(_SEND_TIMEOUT_S)
        out.sendto(message.encode(), address)
