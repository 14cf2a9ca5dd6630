"""Lines for a reader who is slow, stuck or gone: nobody waits, lines stay whole and in order, lost ones are counted."""

from __future__ import annotations

import fcntl
import os
import re
import select
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from flowherd.line_writer import DescriptorSink, LineWriter
from tests.support.waiting import wait_until

WHAT = ("log line", "log lines")


class Pipe:
    """A pipe of one page whose reading end the test reads when it wants to."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(self.reading, False)
        self.data = b""

    def read(self) -> bytes:
        with suppress(BlockingIOError):
            self.data += os.read(self.reading, 65536)
        return self.data

    def close(self) -> None:
        with suppress(OSError):
            os.close(self.reading)
        lead_nowhere(self.writing)


def lead_nowhere(fd: int) -> None:
    """Let a writer whose lines nobody has read write them to nobody: the number must not become another test's pipe."""
    null = os.open(os.devnull, os.O_WRONLY)
    if null != fd:
        os.dup2(null, fd)
        os.close(null)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def numbers(data: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"^line (\d+) x*$", data, re.MULTILINE)]


def test_a_reader_that_reads_gets_every_line_in_order(pipe: Pipe) -> None:
    writer = LineWriter(DescriptorSink(pipe.writing), WHAT)
    for number in range(500):
        writer.write(f"line {number} \n")
    wait_until(lambda: pipe.read().endswith(b"line 499 \n"))
    assert numbers(pipe.data) == list(range(500))
    assert writer.flush()


def test_a_stuck_reader_costs_lines_and_no_time_and_is_told_how_many(pipe: Pipe) -> None:
    writer = LineWriter(DescriptorSink(pipe.writing), WHAT, max_lines=100)
    begun_s = time.monotonic()
    for number in range(1000):
        writer.write(f"line {number} {'x' * (number % 50)}\n")
    assert not writer.flush(0.2)
    assert time.monotonic() - begun_s < 2
    wait_until(lambda: b"lost" in pipe.read() and not select.select([pipe.reading], [], [], 0)[0])
    writer.write("line 1000 \n")
    wait_until(lambda: pipe.read().endswith(b"line 1000 \n"))
    got = numbers(pipe.data)
    assert got == sorted(got)
    lost = [
        int(count) for count in re.findall(rb"^(\d+) log lines were lost because nobody read them$", pipe.data, re.M)
    ]
    assert len(got) + sum(lost) == 1001
    assert lost
    assert len(pipe.data.splitlines()) == len(got) + len(lost)


def test_a_line_longer_than_the_pipe_arrives_whole(pipe: Pipe) -> None:
    writer = LineWriter(DescriptorSink(pipe.writing), WHAT)
    writer.write("long " + "y" * 50_000 + "\n")
    writer.write("short\n")
    wait_until(lambda: pipe.read().endswith(b"short\n"))
    assert pipe.data == b"long " + b"y" * 50_000 + b"\nshort\n"


def test_a_reader_that_is_gone_is_no_error(pipe: Pipe) -> None:
    os.close(pipe.reading)
    writer = LineWriter(DescriptorSink(pipe.writing), WHAT, max_lines=10)
    begun_s = time.monotonic()
    for number in range(1000):
        writer.write(f"line {number} \n")
    assert not writer.flush(0.3)
    assert time.monotonic() - begun_s < 2


class Disk:
    """A disk that is full at first; takes a few bytes before it refuses."""

    def __init__(self) -> None:
        self.room = 12
        self.data = b""

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(28, "No space left on device")
        taken = data[: self.room]
        self.room -= len(taken)
        self.data += taken
        return len(taken)


def test_a_full_disk_is_named_and_the_line_that_was_cut_is_completed() -> None:
    disk = Disk()
    writer = LineWriter(disk, WHAT, max_lines=3)
    writer.write("line 0 xxxxxxxxxxxx\n")
    wait_until(lambda: not disk.room)
    for number in range(1, 6):
        writer.write(f"line {number} \n")
    wait_until(lambda: writer._reason != "nobody read them")
    disk.room = 10_000
    assert writer.flush(10)
    assert disk.data.splitlines() == [
        b"line 0 xxxxxxxxxxxx",
        b"line 1 ",
        b"line 2 ",
        b"3 log lines were lost because the disk was full",
    ]


def test_a_closed_descriptor_is_no_error(pipe: Pipe) -> None:
    fd = os.dup(pipe.writing)
    os.close(fd)
    writer = LineWriter(DescriptorSink(fd), WHAT)
    writer.write("line 0 \n")
    assert not writer.flush(0.2)
    lead_nowhere(fd)


def test_a_fork_writes_its_own_lines_and_not_those_of_its_parent(pipe: Pipe) -> None:
    writer = LineWriter(DescriptorSink(pipe.writing), WHAT)
    writer.write("line 0 \n")
    wait_until(lambda: pipe.read().endswith(b"line 0 \n"))  # a pipe of one page with something in it is full
    pid = os.fork()
    if pid == 0:
        writer.write("line 1 \n")
        os._exit(0 if writer.flush(10) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    wait_until(lambda: pipe.read().endswith(b"line 1 \n"))
    writer.write("line 2 \n")
    wait_until(lambda: pipe.read().endswith(b"line 2 \n"))
    assert numbers(pipe.data) == [0, 1, 2]
