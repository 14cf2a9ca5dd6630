"""Runs one command of flowherd by a command server (tests/support/command_server.py), with this process's surroundings.

    python -I -S command_client.py SOCKET ARGUMENT...

For commands that a shell starts. It imports little, because its own start is what it is to save. Agents and servers,
which live longer than a command, are started as programs.
"""

from __future__ import annotations

import array
import json
import os
import socket
import sys

_PROGRAMS = ("start", "server", "demo")


def main(path: str, *arguments: str) -> int:
    """Return the exit code of the command; of one that a signal ended, what a shell makes of it."""
    if not arguments or arguments[0] in _PROGRAMS:
        os.execv(sys.executable, [sys.executable, "-m", "flowherd", *arguments])
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(path)
    request = json.dumps({"arguments": arguments, "env": dict(os.environ), "cwd": os.getcwd()}).encode()  # noqa: PTH109
    connection.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
    connection.recv(100)
    code = int(connection.recv(100) or 1)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
