"""Agents and servers as processes that are forked from one that has imported them, with --full as started programs.

The start of Python and its imports take most of such a start, and the tests need hundreds. A forked program is a
process like any other: with its own environment, directory and descriptors, and /proc shows its command line and its
variables as those of a started one. Where the kernel cannot do that, each program is started.

    python -m tests.support.programs PATH        listen on the socket PATH until standard input ends
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import json
import mmap
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.support.forking import (
    MAX_MESSAGE_BYTES,
    READ_AT_START,
    become,
    has_same_start,
    serve,
    start_forking,
    stop_forking,
)

_MODULES = (
    "anyio._backends._asyncio",
    "flowherd.backends.graphql.backend",
    "flowherd.backends.graphql.open_graphql",
    "flowherd.cli.agent.root_warning",
    "flowherd.cli.agent.start_command",
    "flowherd.cli.main",
    "flowherd.cli.server.embedded_server",
    "flowherd.host.local_agent",
    "flowherd.host.processes.orphans",
    "flowherd_server.serve",
    "requests",
    "uvicorn.lifespan.off",
)
#: Beginnings of names of variables that Python or a module of flowherd reads at its start.
_READ_ALREADY = (*READ_AT_START, "FLOWHERD_FAULTS")
#: prctl(2): a process may name the memory in which /proc finds its arguments and its environment.
_PR_SET_MM, _PR_SET_MM_MAP = 35, 14
#: Numbers of the fields of /proc/PID/stat (proc(5)) with the places of code, data, heap and stack, which stay.
_STAT_FIELDS = ((26, 27), (45, 46), (47,), (28,))
_kept: list[mmap.mmap] = []

#: What a test may give as a standard stream: a file, a descriptor, or DEVNULL.
Stream = IO[Any] | int


class ForkedProgram:
    """A forked program, with what tests use of subprocess.Popen."""

    def __init__(self, connection: socket.socket, args: Sequence[str]) -> None:
        self.args = list(args)
        self.pid = int(connection.recv(100))
        self.returncode: int | None = None
        self._connection = connection
        #: Can be read from the program's end on.
        self._process = os.pidfd_open(self.pid)
        weakref.finalize(self, os.close, self._process)
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        poll = select.poll()  # which takes any number of a descriptor
        poll.register(self._process, select.POLLIN)
        if not poll.poll(None if timeout is None else timeout * 1000):
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        with self._lock:
            if self.returncode is None:
                self.returncode = int(self._connection.recv(100))
                self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.poll() is None:
                signal.pidfd_send_signal(self._process, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Program = ForkedProgram | subprocess.Popen[bytes]


class Programs:
    """The process that forks, of this test process, which is started for the first program if `environ` is set."""

    #: Its environment; None if each program is to be started.
    environ: Mapping[str, str] | None = None

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._path = ""
        self._is_able = False
        self._lock = threading.Lock()

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        env: Mapping[str, str],
        out: Stream,
        err: Stream,
        prefix: Sequence[str] = (),
    ) -> Program:
        """Start `python -m MODULE ARGUMENTS`, without input.

        `prefix` is a program and its arguments that becomes this one, such as `setpriv`.
        """
        args = [sys.executable, "-m", module, *arguments]
        if prefix or not self._can_fork(env):
            return subprocess.Popen([*prefix, *args], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(self._path)
        request = {"module": module, "args": args, "env": dict(env), "cwd": str(Path.cwd())}
        descriptors = array.array("i", [one if isinstance(one, int) else one.fileno() for one in (out, err)])
        connection.sendmsg([json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        return ForkedProgram(connection, args)

    def close(self) -> None:
        self.environ = None
        if self._process is not None:
            stop_forking(self._process)
            self._process = None

    def _can_fork(self, env: Mapping[str, str]) -> bool:
        """Whether the program can have this environment: some variables have been read already."""
        if self.environ is None or not has_same_start(env, self.environ, _READ_ALREADY):
            return False
        with self._lock:
            if self._process is None:
                self._path = f"{tempfile.mkdtemp(prefix='flowherd-programs-')}/s"
                self._process, first_line = start_forking(__name__, self._path, self.environ)
                self._is_able = first_line == b"ready\n"
        return self._is_able


programs = Programs()


# -- the process itself


def _handle(connection: socket.socket) -> None:
    """Fork the program, send its pid, wait for it, send its exit code, and exit."""
    data, ancillary, _, _ = connection.recvmsg(MAX_MESSAGE_BYTES, socket.CMSG_SPACE(8))
    request = json.loads(data)
    out, err = array.array("i", ancillary[0][2])
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become_program(request, out, err)
    for number in (0, 1, out, err):
        os.close(number)
    connection.send(b"%d" % pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):  # the tests have ended
        connection.send(b"%d" % code)
    os._exit(0)


def _become_program(request: dict[str, Any], out: int, err: int) -> None:
    become(request, os.open(os.devnull, os.O_RDONLY), out, err)
    time.tzset()
    _show(request["args"], request["env"])
    _, _, module, *arguments = sys.orig_argv = request["args"]
    sys.argv = ["-m", *arguments]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    _end(code)  # after any other exception, the interpreter prints it and ends, as in a started program


def _show(args: Sequence[str], env: Mapping[str, str]) -> bool:
    """Have /proc show these arguments and variables as those of this process; return whether the kernel does it."""
    shown = [os.fsencode("".join(f"{word}\0" for word in args))]
    shown += [os.fsencode("".join(f"{name}={value}\0" for name, value in env.items()))]
    # As long as the process lives, and private: of other memory, /proc shows nothing.
    memory = mmap.mmap(-1, sum(map(len, shown)) + 1, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(b"".join(shown))
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    _kept.append(memory)
    libc = ctypes.CDLL(None)
    libc.sbrk.restype = ctypes.c_void_p
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    code, data, heap, stack = ([int(fields[number - 3]) for number in of] for of in _STAT_FIELDS)
    arguments_end = start + len(shown[0])
    places = [start, arguments_end, arguments_end, arguments_end + len(shown[1])]
    map_ = struct.pack("=11QQIi", *code, *data, *heap, libc.sbrk(0), *stack, *places, 0, 0, -1)
    return bool(libc.prctl(_PR_SET_MM, _PR_SET_MM_MAP, map_, ctypes.c_ulong(len(map_)), ctypes.c_ulong(0)) == 0)


def _end(code: object) -> None:
    """End as a program does, except that the interpreter is not taken apart."""
    from flowherd.cli.process_end import end

    if not isinstance(code, int) and code is not None:
        print(code, file=sys.stderr)
    end(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    socket_path = Path(sys.argv[1])
    serve(str(socket_path), _MODULES, _handle, lambda: "ready" if _show(sys.orig_argv, os.environ) else "not able")
    socket_path.unlink()
    socket_path.parent.rmdir()
