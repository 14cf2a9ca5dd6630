"""Flows that show the weaknesses of a supervisor."""

import contextlib
import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

from prefect import flow, get_run_logger


@flow(log_prints=True)
def chattering(file: str) -> None:
    """Print until the file exists."""
    print("chattering")
    while not Path(file).exists():
        print("still here")
        sys.stdout.flush()
        time.sleep(0.1)
    print("it is there")


@flow(log_prints=True)
def silent(file: str) -> None:
    """Print nothing while it waits for the file."""
    print("waiting")
    while not Path(file).exists():
        time.sleep(0.05)
    get_run_logger().info("it is there")


@flow(log_prints=True)
def leaving(file: str, waits: bool) -> None:
    """Leave a process in a session of its own, and write down its pid."""
    child = subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL)
    Path(file).write_text(str(child.pid))
    print("left")
    while waits:
        time.sleep(0.05)


@flow(log_prints=True)
def deaf() -> None:
    """Go on after everything that is raised to end it."""
    print("hears nothing")
    while True:
        with contextlib.suppress(BaseException):
            while True:
                time.sleep(0.05)


@flow
def segfaulting() -> None:
    get_run_logger().info("last words")
    ctypes.string_at(0)


@flow
def speaking_plainly() -> None:
    sys.stdout.write("written\n")
    sys.stdout.flush()
    os.write(2, b"of the descriptor\n")
    subprocess.run([sys.executable, "-c", "print('of a program')"], check=True)


@flow
def filling(mebibytes: int) -> None:
    held = b"x" * (mebibytes << 20)
    time.sleep(2)
    get_run_logger().info("held %d", len(held))


@flow(log_prints=True)
def asking() -> None:
    """Read from standard input, unless it is a pipe: the worker never closes it, so the read would never end."""
    kind = str(Path("/proc/self/fd/0").readlink())
    print("input is", kind.partition(":")[0])
    if kind.startswith("pipe:"):
        return
    try:
        input()
    except EOFError:
        print("end of input")
