"""A process that has imported flowherd's command line and forks for each command.

A command spends nine tenths of its time on the start of Python and its imports, and the tests use hundreds. A forked
command is a process like any other, with its own environment, directory, descriptors and exit code. With --full, each
command is started as a program instead.

    python -m tests.support.command_server PATH        listen on the socket PATH until standard input ends
"""

from __future__ import annotations

import array
import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.forking import MAX_MESSAGE_BYTES, become, has_same_start, serve, start_forking, stop_forking

_MODULES = (
    "flowherd.cli.main",
    "flowherd.config",
    "flowherd.client.user_client",
    "loguru",
    "requests",
    "rich",
)


class CommandServer:
    """The tests' side: starts the process with `environ`, and runs commands of flowherd."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="flowherd-commands-")
        #: Path of the socket, for tests/support/command_client.py too.
        self.path = f"{self._directory.name}/s"
        self._environ = environ
        self._process, first_line = start_forking(__name__, self.path, environ)
        assert first_line == b"ready\n"

    def accepts(self, env: Mapping[str, str]) -> bool:
        """Whether a command with this environment can be forked: Python has read some variables already."""
        return has_same_start(env, self._environ)

    def run(
        self, arguments: Sequence[str], env: Mapping[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, as subprocess.run does with captured texts. Raises TimeoutExpired."""
        request = json.dumps({"arguments": list(arguments), "env": dict(env), "cwd": str(Path.cwd())}).encode()
        with (
            Path(os.devnull).open("rb") as null,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection,
        ):
            connection.connect(self.path)
            descriptors = array.array("i", [null.fileno(), out.fileno(), err.fileno()])
            connection.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            pid = int(connection.recv(100))
            connection.settimeout(timeout_s)
            try:
                code = int(connection.recv(100))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(arguments), timeout_s) from None
            texts = [_read(file) for file in (out, err)]
        return subprocess.CompletedProcess(list(arguments), code, *texts)

    def close(self) -> None:
        stop_forking(self._process)
        self._directory.cleanup()


def _read(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode())


# -- the process itself


def _handle(connection: socket.socket) -> None:
    """Fork the command, send its pid, wait for it, send its exit code, and exit. It ends when its caller does."""
    data, ancillary, _, _ = connection.recvmsg(MAX_MESSAGE_BYTES, socket.CMSG_SPACE(12))
    request = json.loads(data)
    descriptors = array.array("i", ancillary[0][2])
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become_command(request, *descriptors)
        return
    for number in descriptors:  # a pipe's reader sees its end when the command has ended
        os.close(number)
    connection.send(b"%d" % pid)
    process = os.pidfd_open(pid)
    readable, _, _ = select.select([process, connection.fileno()], [], [])
    if process not in readable:
        os.kill(pid, signal.SIGTERM)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):  # the test has given up
        connection.send(b"%d" % code)
    os._exit(0)


def _become_command(request: dict[str, Any], *streams: int) -> None:
    from flowherd.cli.main import run

    become(request, *streams)
    sys.orig_argv = [sys.executable, "-m", "flowherd", *request["arguments"]]
    sys.argv = [str(Path(sys.modules["flowherd"].__file__ or "").with_name("__main__.py")), *request["arguments"]]
    _exit(run(request["arguments"]))


def _exit(code: int) -> None:
    """End as a program does, except that the interpreter is not taken apart: that takes longer than most commands."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for the threads that are no daemons
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1], _MODULES, _handle, lambda: "ready")
