"""The kernel's counters of out-of-memory kills, for programs that supervisord watches.

A program shares supervisord's cgroup as a rule. If it has one of its own, that one's counter is about it alone: of
cgroup v2 (memory.events) or v1 (memory.oom_control); else there is only the host's, in /proc/vmstat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flowherd.supervisord.program_verdict import OomKills
from flowherd_runner.contract.oom import oom_count

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """Counters when a program started; None for what cannot be read."""

    of_host: int | None
    own: int | None = None
    own_file: Path | None = None


class ProgramMemory:
    """Counters of all programs since each started. For one thread."""

    def __init__(self) -> None:
        self._counts: dict[str, _Counts] = {}

    def starting(self, program: str) -> None:
        """Note the counters before a program has a process."""
        self._counts[program] = _Counts(of_host=_of_host())

    def running(self, program: str, pid: int) -> None:
        """Note the cgroup of a program that has been started, if it has one of its own."""
        known = self._counts.get(program) or _Counts(of_host=_of_host())
        file = _counter_file(pid)
        shared = _counter_file("self")
        if file is None or file == shared or any(each.own_file == file for each in self._others(program).values()):
            self._counts[program] = known
            return
        self._counts[program] = _Counts(of_host=known.of_host, own=_count(file), own_file=file)

    def kills(self, program: str) -> OomKills:
        """Return the kills since the program started, by the counter that says most; and forget the program."""
        known = self._counts.pop(program, None)
        if known is None:
            return OomKills()
        if known.own is not None and known.own_file is not None:
            now = _count(known.own_file)
            if now is not None:
                return OomKills(kills=max(0, now - known.own), source=str(known.own_file), is_own=True)
        of_host = _of_host()
        if of_host is None or known.of_host is None:
            return OomKills()
        return OomKills(kills=max(0, of_host - known.of_host), source="/proc/vmstat")

    def _others(self, program: str) -> Mapping[str, _Counts]:
        return {name: counts for name, counts in self._counts.items() if name != program}


def _of_host() -> int | None:
    found = oom_count(None)
    return None if found is None else found.kills


def _counter_file(pid: int | str) -> Path | None:
    """Return the file with the counter of a process's memory cgroup; None if it cannot be known."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control"
    v2 = next((line[3:] for line in lines if line.startswith("0::")), None)
    file = None if v2 is None else _CGROUPS / v2.lstrip("/") / "memory.events"
    return file if file is not None and file.exists() else None


def _count(file: Path) -> int | None:
    try:
        words = (line.split() for line in file.read_text(encoding="ascii").splitlines())
        return next((int(pair[1]) for pair in words if len(pair) == 2 and pair[0] == "oom_kill"), None)
    except (OSError, ValueError):
        return None
