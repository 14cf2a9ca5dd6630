"""What `flowherd top` costs: its CPU, what it sends to the terminal, and what it costs the server.

    python -m benchmarks.top_cost [--runs 20] [--seconds 30]

A real server and a real agent, whose runs print a line a second; `top` on a terminal of its own (pty(7)). In percent of
one core (CPU time of the process, proc(5)), and bytes that were read from the terminal, after the first picture. The
server's CPU is that while `top` looks, less that while nobody does.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import Figure, cpu_s
from tests.support.commands import FLOWHERD, READY, CommandLine, background
from tests.support.server import ServerProcess, running_server

_WORK = "i=0; while :; do i=$((i+1)); echo step $i of 3600; sleep 1; done"
SIZES = ((80, 24), (120, 40), (200, 50))
#: Time until the first picture has been drawn, seconds.
_WARM_UP_S = 5.0


class Top:
    """`flowherd top` on a terminal of this size."""

    def __init__(self, command: CommandLine, width: int, height: int) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        env = {**command.environment(), "TERM": "xterm-256color"}
        self._process = subprocess.Popen(
            [*FLOWHERD, "top"], env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)

    @property
    def cpu_s(self) -> float:
        """CPU time of the process so far, seconds."""
        return cpu_s(self._process.pid)

    def read(self, seconds: float) -> int:
        """Read what it draws for so long; return the number of bytes."""
        count, end_s = 0, time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            ready, _, _ = select.select([self._ours], [], [], left_s)
            if ready:
                count += len(os.read(self._ours, 1 << 16))
        return count

    def leave(self) -> None:
        """End it as a person does."""
        os.write(self._ours, b"q")
        with contextlib.suppress(OSError):  # EIO: it has closed the terminal
            self.read(5.0)
        self._process.wait(10)
        os.close(self._ours)


@contextlib.contextmanager
def stage(runs: int) -> Iterator[tuple[CommandLine, ServerProcess]]:
    """A server and an agent with so many runs."""
    with tempfile.TemporaryDirectory(prefix="flowherd-top-") as place, running_server(Path(place) / "data") as server:
        command = CommandLine(server.home)
        for flow in range(4):
            command("register", f"works-{flow}", "--memory", "500M", "--command", "--", "sh", "-c", _WORK)
        command("register", "often", "--interval", "1m", "--command", "--", "true")
        with background(command, "start", "--on-stop", "cancel", until=READY):
            for number in range(runs):
                command.run(f"works-{number % 4}")
            yield command, server


def measure(command: CommandLine, server: ServerProcess, width: int, height: int, seconds: float) -> list[Figure]:
    """Return CPU of `top` and of the server, and bytes a second, at one size."""
    idle = cpu_s(server.pid)
    time.sleep(seconds)
    idle = cpu_s(server.pid) - idle
    top = Top(command, width, height)
    top.read(_WARM_UP_S)
    own, servers = top.cpu_s, cpu_s(server.pid)
    count = top.read(seconds)
    own, servers = top.cpu_s - own, cpu_s(server.pid) - servers
    top.leave()
    name = f"{width}x{height}"
    return [
        Figure("top", f"top {name}: its CPU", "% of a core", [100 * own / seconds]),
        Figure("top", f"top {name}: to the terminal", "bytes/s", [count / seconds]),
        Figure("top", f"top {name}: the server's CPU for it", "% of a core", [100 * (servers - idle) / seconds]),
    ]


def main() -> None:
    """Measure all sizes and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    with stage(given.runs) as (command, server):
        for width, height in SIZES:
            for figure in measure(command, server, width, height, given.seconds):
                print(figure.line(), flush=True)


if __name__ == "__main__":
    main()
