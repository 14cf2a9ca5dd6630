"""TCP ports for programs that cannot pick a free one themselves."""

from __future__ import annotations

import random
import socket
from pathlib import Path


def free_port() -> int:
    """Return a port of loopback that no process has at this moment.

    It lies below the ports that the kernel gives to outgoing connections, one of which could take it before the program
    does, or while a test restarts the program.
    """
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(10_000, max(lowest_outgoing, 20_000))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
