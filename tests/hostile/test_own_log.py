"""Whatever happens to the agent's own output, its work goes on and it stops when it is asked to."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.hostile.test_resources import fill_up, small_disk
from tests.support.commands import FLOWHERD, READY, CommandLine
from tests.support.waiting import wait_until

__all__ = ["small_disk"]
pytestmark = pytest.mark.usefixtures("no_process_left")

#: Ends of agents that nothing holds up take less; the machine may be busy.
STOP_S = 15.0


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    home = tmp_path / "home"
    home.mkdir()
    return CommandLine(home, {"FLOWHERD__SERVER__BIND_PORT": "0"})


@contextmanager
def agent(command: CommandLine, *arguments: str, output: int) -> Iterator[subprocess.Popen[bytes]]:
    """An agent with its own server; ended at the end of the block by SIGTERM, which it must obey."""
    argv = [*FLOWHERD, "start", "--on-stop", "cancel", *arguments]
    streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
    process = subprocess.Popen(argv, env=command.environment(), start_new_session=True, **streams)  # type: ignore[call-overload]
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S) == 0
    finally:
        process.kill()
        process.wait()


def read_until(fd: int, word: bytes) -> bytes:
    """Read a pipe until `word` was in it."""
    os.set_blocking(fd, False)
    data = bytearray()

    def found() -> bool:
        with suppress(BlockingIOError):
            data.extend(os.read(fd, 65536))
        return word in data

    wait_until(found, timeout_s=40, what=lambda: f"{word!r} in {bytes(data)!r}")
    return bytes(data)


def succeed(command: CommandLine, argv: Sequence[str]) -> None:
    """A flow that runs to its end."""
    command("register", "talk", "--command", "--", *argv)
    command("run", "talk", "--wait", timeout_s=60)


def test_runs_go_on_while_nobody_reads_and_output_that_is_read_later_is_complete(command: CommandLine) -> None:
    """b15: a log shipper hangs, and what the agent and its runs print does not fit into the pipe."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with agent(command, "--show-flow-logs", "--verbose", output=writing):
        os.close(writing)
        read_until(reading, READY.encode())
        succeed(command, ["seq", "10000", "29999"])
        data = read_until(reading, b"| 29999\n")
    shown = re.findall(r"^\S+ \| (\d+)$", data.decode(), re.MULTILINE)
    assert shown == [str(number) for number in range(10000, 30000)]
    os.close(reading)


def test_runs_go_on_and_sigterm_is_obeyed_when_the_reader_is_gone(command: CommandLine) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with agent(command, "--show-flow-logs", "--verbose", output=writing):
        os.close(writing)
        read_until(reading, READY.encode())
        os.close(reading)
        succeed(command, ["seq", "10000", "29999"])


def test_sigterm_is_obeyed_while_nobody_reads(command: CommandLine) -> None:
    """Also when the pipe was full before the start."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    with agent(command, output=writing):
        wait_until(lambda: (command.home / "agents" / "agent" / "control.sock").exists(), timeout_s=40)
    os.close(reading)
    os.close(writing)


def test_a_log_on_a_full_disk_goes_on_when_there_is_room(command: CommandLine, small_disk: Path) -> None:
    """Standard error and --log-file on one full disk: runs succeed, and later lines are whole lines."""
    log, errors = small_disk / "agent.log", small_disk / "stderr"
    with errors.open("ab") as file, agent(command, "--verbose", "--log-file", str(log), output=file.fileno()):
        wait_until(lambda: READY in errors.read_text(), timeout_s=40)
        ballast = fill_up(small_disk)
        succeed(command, ["echo", "hello"])
        ballast.unlink()
        before = [path.stat().st_size for path in (log, errors)]
        succeed(command, ["echo", "hello"])
        wait_until(lambda: all(path.stat().st_size > size for path, size in zip((log, errors), before, strict=True)))
    stamp = r"(\d{4}-\d\d-\d\dT)?\d\d:\d\d:\d\d\.\d{3}(\+\d{4})? (DEBUG|INFO|WARNING|ERROR) +"
    for path in (log, errors):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("no API is set")]
        torn = [line for line in lines if not re.match(stamp, line)]
        assert len(torn) <= 1, torn  # the file's line that was cut when the disk became full, if one was
