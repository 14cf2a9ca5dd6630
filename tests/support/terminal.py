"""flowherd on a terminal of a given size, as a person sees it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.commands import FLOWHERD, CommandLine

#: Sequences that change colours, move the cursor or erase.
_CONTROLS = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


class Terminal:
    """A terminal on which one command runs."""

    def __init__(
        self, command: CommandLine, *arguments: str, width: int = 80, height: int = 24, term: str = "xterm"
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        env = {name: value for name, value in command.environment().items() if name not in ("COLUMNS", "LINES")}
        self._process = subprocess.Popen(
            [*FLOWHERD, *arguments],
            env={**env, "TERM": term},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            # Its controlling terminal, so that ^C is an interrupt.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        #: What the command has written so far.
        self.raw = ""

    def write(self, text: str) -> None:
        """Type a text."""
        os.write(self._ours, text.encode())

    def read_until(self, found: Callable[[str], bool], timeout_s: float = 30.0) -> str:
        """Read until `found` holds for all that was written, or the command has ended; return that as text."""
        deadline_s = time.monotonic() + timeout_s
        while not found(self.raw):
            ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline_s - time.monotonic()))
            assert ready, f"not within {timeout_s} s:\n{self.text}"
            with contextlib.suppress(OSError):  # EIO: the other side is closed
                if part := os.read(self._ours, 65536):
                    self.raw += part.decode(errors="replace")
                    continue
            break
        return self.text

    @property
    def text(self) -> str:
        """What was written, without colours and movements of the cursor."""
        return _CONTROLS.sub("", self.raw).replace("\r\n", "\n")

    @property
    def pid(self) -> int:
        """Pid of the command."""
        return self._process.pid

    def send_signal(self, number: signal.Signals) -> None:
        """Send the command a signal."""
        self._process.send_signal(number)

    def interrupt(self) -> int:
        """End the command as Ctrl-C does; return its exit code."""
        self._process.send_signal(signal.SIGINT)
        self.read_until(lambda raw: False)
        return self._process.wait(30)

    def end(self) -> int:
        """Read all and return the exit code."""
        self.read_until(lambda raw: False)
        return self._process.wait(30)

    def hang_up(self) -> int:
        """Close the terminal as a person closes its window; return the exit code of the command."""
        os.close(self._ours)
        self._ours = -1
        return self._process.wait(30)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)
        if self._ours >= 0:
            os.close(self._ours)


@contextmanager
def on_terminal(
    command: CommandLine, *arguments: str, width: int = 80, height: int = 24, term: str = "xterm"
) -> Iterator[Terminal]:
    """Run a command on a terminal; it has ended at the end of the block."""
    terminal = Terminal(command, *arguments, width=width, height=height, term=term)
    try:
        yield terminal
    finally:
        terminal.close()


def screen(command: CommandLine, *arguments: str, width: int = 80, height: int = 24) -> list[str]:
    """Run a command to its end, which must be good, and return the lines that a person sees."""
    with on_terminal(command, *arguments, width=width, height=height) as terminal:
        code = terminal.end()
        assert code == 0, terminal.text
        return terminal.text.splitlines()
