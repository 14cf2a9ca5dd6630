"""What the benchmarks share: floors, figures with their spread, CPU time of processes, and the machine."""

from __future__ import annotations

import datetime
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Figure:
    """One measured thing: its values, in `unit`, and what has to be known beside them."""

    row: str
    what: str
    unit: str
    values: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def p90(self) -> float:
        """The value that nine of ten are below or equal to."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]

    def as_json(self) -> dict[str, Any]:
        return {
            "row": self.row,
            "what": self.what,
            "unit": self.unit,
            "n": len(self.values),
            "median": self.median,
            "p90": self.p90,
            "values": self.values,
            "note": self.note,
        }

    def line(self) -> str:
        spread = f"p90 {_shown(self.p90)}, n={len(self.values)}" if len(self.values) > 1 else "n=1"
        return (
            f"{self.what:52} {_shown(self.median):>9} {self.unit:14} ({spread}){f'  {self.note}' if self.note else ''}"
        )


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


class FirstLines:
    """A pipe with a name into which jobs write the time at which their code runs, and the time at which it came."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "first-lines"
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self._seen: list[float] = []
        self._news = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def take(self, timeout_s: float = 60) -> float:
        """Return the time of the next line, on CLOCK_MONOTONIC."""
        with self._news:
            assert self._news.wait_for(lambda: self._seen, timeout_s), "no job has written its first line"
            return self._seen.pop(0)

    def clear(self) -> None:
        with self._news:
            self._seen.clear()

    def close(self) -> None:
        self._stopped = True
        os.write(self._fd, b"0\n")
        self._thread.join()
        os.close(self._fd)

    def _read(self) -> None:
        while not self._stopped:
            data = os.read(self._fd, 65536)
            now = time.monotonic()
            with self._news:
                self._seen += [float(text) if text.strip(b"-") else now for text in data.split()]
                self._news.notify()


class ForkFloor:
    """A Python process that forks when it is asked to, as large as a fork server without preloaded modules.

    What a fork costs depends on the memory of the parent: with a bare interpreter it is a third of this.
    """

    _PROGRAM = """
import inspect, json, logging, multiprocessing, os, runpy, socket, subprocess, sys, tempfile, time
for line in sys.stdin:
    began = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    print(1000 * (time.perf_counter() - began), flush=True)
"""

    def __init__(self) -> None:
        command = [sys.executable, "-c", self._PROGRAM]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ms(self) -> float:
        """Return how long fork, exit and wait take, milliseconds."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def flush_floor_ms(directory: Path) -> float:
    """Return how long fdatasync(2) of a hundred new bytes in a file takes, milliseconds."""
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(b"x" * 100)
        file.flush()
        began = time.perf_counter()
        os.fdatasync(file.fileno())
        return 1000 * (time.perf_counter() - began)


def write_floor_lines_s(directory: Path, lines: int = 200_000) -> float:
    """Return how many lines a second print writes to a file."""
    with tempfile.TemporaryFile("w", dir=directory) as file:
        began = time.perf_counter()
        for number in range(lines):
            print("line %d of the log, with some text in it as such lines have" % number, file=file)  # noqa: UP031
        file.flush()
        return lines / (time.perf_counter() - began)


def program_cpu_ms(command: Sequence[str], environ: dict[str, str]) -> float:
    """Return user and system time of a program from its start to its end, milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environ, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process itself, seconds, to the nanosecond (proc(5), schedstat, of all its threads)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def cpu_with_ended_children_s(pids: Sequence[int]) -> float:
    """Return the CPU time of processes and of those of their descendants that they have waited for, seconds."""
    return sum(sum(psutil.Process(pid).cpu_times()[:4]) for pid in pids)


def in_turns(ways: dict[str, Callable[[], None]], rounds: int) -> None:
    """Call each once in every round, in an order that changes."""
    names = list(ways)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            ways[name]()


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    commit = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return {
        "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }
