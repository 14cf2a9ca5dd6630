"""The real command line on a terminal of its own (pty(7)), as a person has it."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.commands import FLOWHERD, CommandLine
from tests.support.waiting import wait_until


class Terminal:
    """flowherd on a terminal of its own."""

    def __init__(self, command: CommandLine, *arguments: str, columns: int, lines: int) -> None:
        environment = {**command.environment(), "COLUMNS": str(columns), "LINES": str(lines), "NO_COLOR": "1"}
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.execve(FLOWHERD[0], [*FLOWHERD, *arguments], environment)
        self.text = ""

    def wait_for(self, text: str) -> None:
        wait_until(lambda: self._read() and text in self.text, timeout_s=60, what=lambda: self.text)

    def write(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def end(self) -> int:
        """Wait for the end of the command and return its exit code."""
        while self._read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def close(self) -> None:
        os.close(self._fd)

    def _read(self) -> bool:
        try:
            data = os.read(self._fd, 4096)
        except OSError:  # the last process with the terminal has ended
            return False
        self.text += data.decode().replace("\r\n", "\n")
        return bool(data)


@contextmanager
def terminal(command: CommandLine, *arguments: str, columns: int = 80, lines: int = 24) -> Iterator[Terminal]:
    """Start flowherd on a terminal of this size; the terminal is closed at the end of the block."""
    one = Terminal(command, *arguments, columns=columns, lines=lines)
    try:
        yield one
    finally:
        one.close()
