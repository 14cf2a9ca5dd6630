"""Evidence about the runs from outside: the files that they wrote themselves, and the server's database."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

_LINE = re.compile(r"line (\d+)")


@dataclass(frozen=True)
class Identity:
    """A process, by its pid and its start time in clock ticks (proc(5))."""

    pid: int
    ticks: int

    @property
    def alive(self) -> bool:
        """Whether it exists and is not a zombie."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return False
        return int(fields[19]) == self.ticks and fields[0] not in (b"Z", b"X")


@dataclass(kw_only=True)
class Facts:
    """What a run wrote down itself."""

    #: Flow processes, one for each start of its code.
    flows: list[Identity] = field(default_factory=list)
    runners: list[Identity] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    children: list[Identity] = field(default_factory=list)
    end: str | None = None


def facts(directory: Path, run_id: str) -> Facts:
    """Read the facts of a run; they are empty when its code never ran."""
    found = Facts()
    try:
        text = (directory / run_id).read_text()
    except FileNotFoundError:
        return found
    for line in text.splitlines():
        word, *values = line.split()
        if word == "start":
            pid, ticks, runner_pid, runner_ticks = map(int, values)
            found.flows.append(Identity(pid, ticks))
            found.runners.append(Identity(runner_pid, runner_ticks))
        elif word == "line":
            found.lines.append(int(values[0]))
        elif word == "child":
            found.children.append(Identity(int(values[0]), int(values[1])))
        elif word == "end":
            found.end = values[0]
    return found


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """What the server has of a run."""

    run_id: str
    #: Kind of run at its backend, where that decides how it may end.
    sort: str = ""
    state: str
    message: str
    #: Reason of the end, from flowherd_runner.contract.reasons, where the backend keeps it.
    reason: str | None
    #: All its states, oldest first.
    history: list[str]
    #: Numbers of its own lines, in the order of the log.
    lines: list[int]
    #: Flowherd's own lines about its end.
    notices: list[str]


def line_numbers(texts: Iterable[str]) -> list[int]:
    """Return the numbers of the lines that the run's code has written on purpose."""
    matches = map(_LINE.fullmatch, texts)
    return [int(match[1]) for match in matches if match]


def read_only(path: Path) -> sqlite3.Connection:
    """Open a server's database without the server."""
    connection = sqlite3.connect(path, timeout=20)
    connection.execute("PRAGMA query_only = ON")
    return connection


def still_alive(found: Facts) -> Collection[Identity]:
    """Return the processes of a run that are alive."""
    return [one for one in (*found.flows, *found.children) if one.alive]
