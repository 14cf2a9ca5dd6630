"""Connections to a server's lane: flowherd's own client, and bare sockets for what that would never send."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flowherd.lane.client import LaneClient
from flowherd.lane.frames import Frame, FrameReader
from flowherd.lane.messages import SOCKET_FILE
from tests.support.server import ServerProcess


def lane_path(server: ServerProcess) -> Path:
    """Return the path of its socket."""
    return server.data_dir / SOCKET_FILE


@contextmanager
def lane_of(server: ServerProcess, **introduction: Any) -> Iterator[LaneClient]:
    """Open the lane of a server."""
    client = LaneClient(lane_path(server), 20, **introduction)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def bare_lane(server: ServerProcess) -> Iterator[socket.socket]:
    """Connect without a hello."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connected:
        connected.settimeout(20)
        connected.connect(str(lane_path(server)))
        yield connected


def frames_until_closed(connected: socket.socket) -> list[Frame]:
    """Return all that the server sends until it closes the connection."""
    reader = FrameReader()
    try:
        while data := connected.recv(65536):
            reader.feed(data)
    except ConnectionResetError:  # what was sent and not read by the server
        pass
    return list(reader.frames())
