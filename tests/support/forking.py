"""A process that has imported modules and forks for each connection: what command_server.py and programs.py share."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import random
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

MAX_MESSAGE_BYTES = 1 << 20
#: Beginnings of names of variables that Python or a library below it reads at its start.
READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "OPENSSL_")


def start_forking(module: str, path: str, environ: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], bytes]:
    """Start `python -m MODULE PATH`, which calls `serve`; return it, and its first line, once it has imported all."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert process.stdout is not None
    return process, process.stdout.readline()


def stop_forking(process: subprocess.Popen[bytes]) -> None:
    """End it, and wait for that."""
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
    process.wait(20)


def has_same_start(env: Mapping[str, str], environ: Mapping[str, str], read: tuple[str, ...] = READ_AT_START) -> bool:
    """Whether two environments are equal in the variables whose names begin with one of `read`."""
    names = {name for name in (*env, *environ) if name.startswith(read)}
    return all(env.get(name) == environ.get(name) for name in names)


def serve(
    path: str, modules: Sequence[str], handle: Callable[[socket.socket], object], first_line: Callable[[], str]
) -> None:
    """Import the modules, print the first line, and fork for each connection until standard input ends.

    `handle` is called in the fork.
    """
    for name in modules:
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(64)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    gc.freeze()
    print(first_line(), flush=True)
    while all(key.fd != 0 for key, _ in selector.select()):
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            selector.close()
            handle(connection)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def become(request: Mapping[str, Any], *streams: int) -> None:
    """Make this fork a process with the request's directory and variables, and with these standard streams."""
    take_streams(*streams)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    random.seed()
    sys.path[0] = request["cwd"]


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
