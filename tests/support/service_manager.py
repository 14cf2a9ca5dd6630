"""The side of a service manager: a real datagram socket that receives what a service sends (sd_notify(3))."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Notifications:
    """The messages that have arrived."""

    def __init__(self) -> None:
        self._all: list[bytes] = []

    def add(self, message: bytes) -> None:
        """Take one message."""
        self._all.append(message)

    @property
    def raw(self) -> list[bytes]:
        """All messages so far, oldest first."""
        return list(self._all)

    def messages(self) -> list[str]:
        """Return all messages so far, oldest first."""
        return [message.decode() for message in self.raw]

    def lines(self) -> list[str]:
        """Return the lines of all messages so far."""
        return [line for message in self.messages() for line in message.splitlines()]

    def forget(self) -> None:
        """Forget the messages so far."""
        self._all.clear()


@contextmanager
def notifications(path: Path) -> Iterator[Notifications]:
    """Receive at this path until the end of the block, as a service manager that always reads."""
    received = Notifications()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))

        def read() -> None:
            while message := receiver.recv(1 << 20):
                received.add(message)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield received
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ending:
                ending.sendto(b"", str(path))
            reader.join()
