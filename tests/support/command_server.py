"""Runs `flowherd` commands in forks of one process that has imported the command line already.

Hundreds of tests run short commands, and most of the time of each is the start of an interpreter. A command here is a
process of its own with its own arguments, environment, directory and output; only the imports are shared. Tests of the
program's start itself, and of commands that go on (start, server), run the program.

    python command_server.py SOCKET     serves on the descriptor SOCKET until its other end is closed
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

#: Length of a request, before it.
_LENGTH = struct.Struct("!I")
#: Commands that go on, or replace their own program.
_NOT_FORKED = frozenset({"start", "server", "demo", "restart"})
_lock = threading.Lock()
#: Descriptor of the connection to the server, which is started with the first command and ends with this process.
_server: int | None = None


def run_command(
    args: tuple[str, ...], environment: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run one command line to its end. Raises subprocess.TimeoutExpired, after killing it."""
    if not args or args[0] in _NOT_FORKED or _needs_an_interpreter_of_its_own(environment):
        program = [sys.executable, "-m", "flowherd", *args]
        return subprocess.run(
            program, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s
        )
    with tempfile.TemporaryFile("w+b") as out, tempfile.TemporaryFile("w+b") as err:
        code = _run_forked(args, environment, (out.fileno(), err.fileno()), timeout_s)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(args, code, *texts)


def _needs_an_interpreter_of_its_own(environment: Mapping[str, str]) -> bool:
    """Return whether the environment has variables that an interpreter reads when it starts."""
    names = {name for name in {*environment, *os.environ} if name.startswith(("PYTHON", "LC_", "LANG"))}
    return any(environment.get(name) != os.environ.get(name) for name in names)


def _run_forked(args: tuple[str, ...], environment: Mapping[str, str], fds: tuple[int, int], timeout_s: float) -> int:
    mine, its = socket.socketpair()
    with mine, its:
        request = json.dumps({"args": args, "environment": dict(environment), "directory": str(Path.cwd())}).encode()
        with _lock, socket.socket(fileno=os.dup(_connection())) as server:
            socket.send_fds(server, [_LENGTH.pack(len(request))], [*fds, its.fileno()])
            server.sendall(request)
        its.close()
        mine.settimeout(timeout_s)
        answers = mine.makefile("r")
        pid = int(answers.readline())
        try:
            return int(answers.readline() or -signal.SIGKILL)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(args, timeout_s) from None


def _connection() -> int:
    global _server
    if _server is None:
        mine, its = socket.socketpair()
        with its:
            os.set_inheritable(its.fileno(), True)
            # Without the variables of one test, such as the mark that its processes carry (leftovers.py).
            own = ("FLOWHERD", "PREFECT", "SUPERVISOR")
            environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
            program = [sys.executable, __file__, str(its.fileno())]
            stdin = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
            os.posix_spawn(program[0], program, environment, file_actions=[stdin])
        _server = mine.detach()
    return _server


def _serve(requests: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the kernel
    while True:
        head, fds, _, _ = socket.recv_fds(requests, _LENGTH.size, 3)
        if not head:
            return
        request = b""
        (length,) = _LENGTH.unpack(head)
        while len(request) < length:
            request += requests.recv(length - len(request))
        if os.fork() == 0:
            requests.close()
            _become_command(json.loads(request), *fds)
        for fd in fds:
            os.close(fd)


def _become_command(request: dict[str, object], out: int, err: int, answer: int) -> None:
    """Run the command in this process, which ends with it."""
    code = 70
    os.write(answer, f"{os.getpid()}\n".encode())
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.environ.clear()
        os.environ.update(request["environment"])  # type: ignore[call-overload]
        os.chdir(str(request["directory"]))
        sys.argv = ["flowherd", *request["args"]]  # type: ignore[misc]
        sys.path[0] = str(Path.cwd())
        from flowherd.cli.main import run

        code = run(sys.argv[1:])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os.write(answer, f"{code}\n".encode())
        os._exit(code)


def _import_what_commands_need() -> None:
    import flowherd.agent.http_api
    import flowherd.cli.explain.explain_command
    import flowherd.cli.main
    import flowherd.client.user_client
    import flowherd.config
    import flowherd.host.local_agent
    import flowherd.supervisord.rpc
    import flowherd.supervisord.service_files  # noqa: F401


if __name__ == "__main__":
    _import_what_commands_need()
    _serve(socket.socket(fileno=int(sys.argv[1])))
