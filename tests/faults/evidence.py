"""Evidence about the runs from outside: the files that they wrote themselves, and the server's database."""

from __future__ import annotations

import functools
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
    #: Their runners; empty if none is known, which can be so for runs in a pid namespace of their own.
    runners: list[Identity] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    children: list[Identity] = field(default_factory=list)
    end: str | None = None


def facts(directory: Path, run_id: str) -> Facts:
    """Read the facts of a run; they are empty when its code never ran."""
    found, is_apart = Facts(), False
    try:
        text = (directory / run_id).read_text()
    except FileNotFoundError:
        return found
    for line in text.splitlines():
        word, *values = line.split()
        if word == "start":
            pid, ticks, runner_pid, runner_ticks = map(int, values)
            is_apart = runner_pid == 0
            flow = _from_outside(run_id, pid, ticks) if is_apart else Identity(pid, ticks)
            runner = _parent(flow) if is_apart else Identity(runner_pid, runner_ticks)
            found.flows.append(flow)
            found.runners += [runner] if runner is not None else []
        elif word == "line":
            found.lines.append(int(values[0]))
        elif word == "child":
            pid, ticks = map(int, values)
            found.children.append(_from_outside(run_id, pid, ticks) if is_apart else Identity(pid, ticks))
        elif word == "end":
            found.end = values[0]
    return found


#: Processes in pid namespaces of runs: by run, pid in there and start ticks, as this process sees them.
_inside: dict[tuple[str, int, int], Identity] = {}
_RUN_ID = re.compile(rb"FLOWHERD_FLOW_RUN_ID=([^\0]+)")


def _from_outside(run_id: str, pid: int, ticks: int) -> Identity:
    """Return the process of a run that has this pid in a namespace of its own, by the pid that this process sees.

    What has ended before the first look cannot be found any more; it is returned as it is, and is not alive.
    """
    key = run_id, pid, ticks
    if key not in _inside:
        _look_into_namespaces()
    return _inside.setdefault(key, Identity(pid, ticks))


def _look_into_namespaces() -> None:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status = (entry / "status").read_text()
            pids = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
            named = _RUN_ID.search((entry / "environ").read_bytes()) if len(pids) == 2 else None
            if named is not None:
                ticks = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[19])
                _inside.setdefault((named[1].decode(), int(pids[1]), ticks), Identity(int(pids[0]), ticks))
        except (OSError, StopIteration):  # it has ended
            continue


@functools.cache
def _parent(flow: Identity) -> Identity | None:
    """Return the parent of a flow process, its runner; None if that had ended at the first look."""
    try:
        fields = Path(f"/proc/{flow.pid}/stat").read_bytes().rpartition(b")")[2].split()
        pid = int(fields[1])
        ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except OSError:
        return None
    return Identity(pid, ticks) if int(fields[19]) == flow.ticks and flow.alive else None


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
