"""What is known of the runs from outside: the files that they wrote themselves, and the server's database."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowherd.states import FINISHED

_LINE = re.compile(r"line (\d+)")


@dataclass(frozen=True)
class Identity:
    """A process, by pid and the ticks at which it started (proc(5))."""

    pid: int
    ticks: int

    @property
    def alive(self) -> bool:
        """Whether it is there and no zombie."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return False
        return int(fields[19]) == self.ticks and fields[0] not in (b"Z", b"X")


@dataclass(kw_only=True)
class Facts:
    """What a run wrote down itself."""

    #: One for each time that its code was started.
    flows: list[Identity] = field(default_factory=list)
    runners: list[Identity] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    children: list[Identity] = field(default_factory=list)
    end: str | None = None


def facts(directory: Path, run_id: str) -> Facts:
    """The facts of a run; empty when its code never ran."""
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
class Stored:
    """What the server holds of a run."""

    run_id: str
    parameters: dict[str, Any]
    state: str
    message: str
    #: Why it ended, in the words of flowherd_runner.contract.reasons.
    reason: str | None
    #: All states that it has been in, oldest first.
    history: list[str]
    #: The numbers of its own lines, as a reader of the log finds them.
    lines: list[int]
    #: Flowherd's own words about its end.
    notices: list[str]


class Database:
    """The server's database, read past the server."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def states(self) -> dict[str, str]:
        """All runs and what they are in."""
        with closing(self._connection()) as connection:
            return dict(connection.execute("SELECT id, state FROM flow_run ORDER BY seq").fetchall())

    def run(self, run_id: str) -> Stored:
        """One run."""
        with closing(self._connection()) as connection:
            query = "SELECT state, serialized_state, state_message, parameters FROM flow_run WHERE id = ?"
            state, serialized, message, parameters = connection.execute(query, [run_id]).fetchone()
            query = "SELECT state FROM flow_run_state WHERE flow_run_id = ? ORDER BY version"
            history = [row[0] for row in connection.execute(query, [run_id])]
            query = "SELECT message, info FROM log WHERE flow_run_id = ? ORDER BY timestamp, id"
            log = connection.execute(query, [run_id]).fetchall()
        ours = (json.loads(serialized).get("context") or {}).get("flowherd") or {}
        streams = [(text, json.loads(info or "{}").get("stream")) for text, info in log]
        matches = [_LINE.fullmatch(text) for text, stream in streams if stream in ("stdout", "log")]
        return Stored(
            run_id=run_id,
            parameters=json.loads(parameters),
            state=state,
            message=message or "",
            reason=ours.get("reason"),
            history=history,
            lines=[int(match[1]) for match in matches if match],
            notices=[text for text, stream in streams if stream == "flowherd" and _is_end(text)],
        )

    def _connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=20)
        connection.execute("PRAGMA query_only = ON")
        return connection


def _is_end(text: str) -> bool:
    return text.startswith(tuple(f"{state}: " for state in FINISHED))


def is_final(state: str) -> bool:
    """Whether a state is a final one."""
    return state in FINISHED


def still_alive(found: Facts) -> Collection[Identity]:
    """The processes of a run that are there."""
    return [one for one in (*found.flows, *found.children) if one.alive]
