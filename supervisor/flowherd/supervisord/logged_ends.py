"""The lines of supervisord's own log about the end of a process: the only place where it names the signal. Pure.

Source: Subprocess.finish, spawn and transition in supervisor/process.py; the format of lines in supervisor/loggers.py.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

#: How far the time of a line may be from the time of an event, seconds.
_NEAR_S = 2.0
_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) [A-Z]{4} (.*)")


@dataclass(frozen=True, kw_only=True)
class LoggedEnd:
    """The end of a process in the log."""

    #: The exit code; -1 for a signal.
    exit_code: int
    #: Name of the signal; empty for an exit code.
    signal: str
    #: The line from its text on.
    line: str
    #: Whether it cannot be about another process of the same name.
    is_certain: bool
    was_killed_by_supervisord: bool


def find_end(log: str, name: str, pid: int | None, at: float) -> LoggedEnd | None:
    """Return the end of the process `name` at about this time, seconds since the epoch.

    The log has names without groups, and two groups may have a process of the same name. The end is therefore found by
    the pid, if the log has the start with it; else by name and time, and is certain if all such lines say the same.
    """
    lines = list(_read(log))
    ends = [index for index, (_, text) in enumerate(lines) if _describes_end(text, name)]
    index, is_certain = _by_pid(lines, ends, name, pid), True
    if index is None:
        near = [each for each in ends if abs(lines[each][0] - at) <= _NEAR_S]
        if not near:
            return None
        index, is_certain = near[-1], len({lines[each][1] for each in near}) == 1
    text = lines[index][1]
    described = text.partition("(")[2]
    code = re.match(r"exit status (\d+)", described)
    signal = re.match(r"terminated by (SIG[A-Z0-9+-]+|signal \d+)", described)
    if code is None and signal is None:
        return None
    before = [text for _, text in lines[max(0, index - 50) : index]]
    killed = pid is not None and f"killing '{name}' ({pid}) with SIGKILL" in before
    return LoggedEnd(
        exit_code=int(code[1]) if code is not None else -1,
        signal=signal[1] if signal is not None else "",
        line=text,
        is_certain=is_certain,
        was_killed_by_supervisord=killed,
    )


def _describes_end(text: str, name: str) -> bool:
    return text.startswith((f"exited: {name} (", f"stopped: {name} ("))


def _by_pid(lines: Sequence[tuple[float, str]], ends: Sequence[int], name: str, pid: int | None) -> int | None:
    """Return the end after the line in which the process was started, if no other of this name was in between."""
    if not pid:
        return None
    started = f"spawned: '{name}' with pid {pid}"
    start = max((index for index, (_, text) in enumerate(lines) if text == started), default=None)
    if start is None:
        return None
    end = min((index for index in ends if index > start), default=None)
    between = lines[start + 1 : end]
    if end is None or any(text.startswith(f"spawned: '{name}' with pid ") for _, text in between):
        return None
    return end


def _read(log: str) -> list[tuple[float, str]]:
    found = []
    for line in log.splitlines():
        parts = _LINE.fullmatch(line)
        if parts is not None:
            # The log is in local time, and this process has the time zone of supervisord.
            at = time.mktime(time.strptime(parts[1], "%Y-%m-%d %H:%M:%S")) + int(parts[2]) / 1000
            found.append((at, parts[3]))
    return found
