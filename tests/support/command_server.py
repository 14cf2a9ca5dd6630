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
import gc
import importlib
import json
import os
import random
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_MODULES = (
    "flowherd.cli.main",
    "flowherd.config",
    "flowherd.client.user_client",
    "loguru",
    "requests",
    "rich",
)
_MAX_MESSAGE_BYTES = 1 << 20
#: Beginnings of names of variables that Python or a library below it reads at its start.
READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "OPENSSL_")


class CommandServer:
    """The tests' side: starts the process with `environ`, and runs commands of flowherd."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="flowherd-commands-")
        #: Path of the socket, for tests/support/command_client.py too.
        self.path = f"{self._directory.name}/s"
        self._environ = environ
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, self.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
            cwd=Path(__file__).resolve().parents[2],
        )
        assert self._process.stdout is not None and self._process.stdout.readline() == b"ready\n"

    def accepts(self, env: Mapping[str, str]) -> bool:
        """Whether a command with this environment can be forked: Python has read some variables already."""
        names = {name for name in (*env, *self._environ) if name.startswith(READ_AT_START)}
        return all(env.get(name) == self._environ.get(name) for name in names)

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
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(20)
        self._directory.cleanup()


def _read(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode())


# -- the process itself


def serve(path: str) -> None:
    """Fork for each connection until standard input ends."""
    for name in _MODULES:
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(64)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    gc.freeze()
    print("ready", flush=True)
    while all(key.fd != 0 for key, _ in selector.select()):
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            selector.close()
            _handle(connection)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _handle(connection: socket.socket) -> None:
    """Fork the command, send its pid, wait for it, send its exit code, and exit. It ends when its caller does."""
    data, ancillary, _, _ = connection.recvmsg(_MAX_MESSAGE_BYTES, socket.CMSG_SPACE(12))
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


def take_streams(*descriptors: int) -> None:
    """Make these the standard streams, as Python does at its start."""
    for target, source in enumerate(descriptors):
        os.dup2(source, target)
        os.close(source)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        before = getattr(sys, name)
        by_line = 1 if name == "stderr" or os.isatty(number) else -1
        stream = open(number, mode, by_line, before.encoding, before.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _become_command(request: dict[str, Any], *streams: int) -> None:
    from flowherd.cli.main import run

    take_streams(*streams)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    random.seed()
    sys.orig_argv = [sys.executable, "-m", "flowherd", *request["arguments"]]
    sys.argv = [str(Path(sys.modules["flowherd"].__file__ or "").with_name("__main__.py")), *request["arguments"]]
    sys.path[0] = request["cwd"]
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
    serve(sys.argv[1])
