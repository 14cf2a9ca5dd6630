"""What an agent reports of one running run: what its processes use, and when it last did something.

An agent sends these figures with its report (agent_report.py), under `run_figures`: every 60 seconds, and every 2
seconds while somebody looks. They are kept in memory and never stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from flowherd.story.sent_values import NUMBER, WHOLE, Kind, readable

#: Maximum number of runs, and of processes of one run, in a report.
MOST_RUNS, MOST_PROCESSES = 2_000, 500
#: Maximum length of a text, characters.
_MAX_TEXT = 500


@dataclass(frozen=True, kw_only=True)
class ProcessFigures:
    """One process of a run at one moment."""

    pid: int
    #: Pid of the process that has started it; the runner's if that one has ended.
    parent: int | None = None
    #: Its command line, cut to 500 characters, or its name if that cannot be read.
    command: str = ""
    memory_bytes: int | None = None
    #: CPU time since its start with that of the children that it has waited for, seconds.
    cpu_time_s: float | None = None
    #: When it was started, seconds since the epoch.
    since: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunFigures:
    """One run at one moment. What is not known is None. Times are seconds since the epoch, by the agent's clock.

    The runner is not counted.
    """

    #: Id of the flow run.
    id: str
    #: When this was true.
    at: float
    #: Sum of the resident sets of its processes, the highest one seen, and the limit.
    memory_bytes: int | None = None
    peak_memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    #: CPU time of all processes, seconds, and how much of one processor they have used lately: 1.0 is all of one.
    cpu_time_s: float | None = None
    cpu_share: float | None = None
    #: Number of processes, and the limit.
    processes: int | None = None
    processes_limit: int | None = None
    #: When its last line was written; its start if there is none.
    last_line_at: float | None = None
    #: Since when it has used less than 1 % of a processor.
    idle_since: float | None = None
    #: Time between asking the flow to end and killing it, seconds.
    grace_s: float | None = None
    #: Why it was asked to end (a word of flowherd_runner's contract); empty if it was not.
    stopping: str = ""
    #: Pid of its first process.
    pid: int | None = None
    #: Its processes, parents first; only while somebody looks at the run.
    tree: tuple[ProcessFigures, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the figures as they are sent, without what is not known."""
        found = _known(asdict(replace(self, tree=())))
        return {**found, "tree": [_known(asdict(one)) for one in self.tree]} if self.tree else found

    @property
    def quiet_since(self) -> float | None:
        """Since when it has written no line and used less than 1 % of a processor; None if that is not known."""
        known = [at for at in (self.last_line_at, self.idle_since) if at is not None]
        return max(known) if self.idle_since is not None else None


class Sample(NamedTuple):
    """A point of a run's curve."""

    #: Seconds since the epoch.
    at: float
    memory_bytes: int | None
    #: Share of one processor: 1.0 is all of it.
    cpu_share: float | None


_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("id", "stopping"), str),
    **dict.fromkeys(("memory_bytes", "peak_memory_bytes", "memory_limit_bytes"), WHOLE),
    **dict.fromkeys(("processes", "processes_limit", "pid"), WHOLE),
    **dict.fromkeys(("at", "cpu_time_s", "cpu_share", "last_line_at", "idle_since", "grace_s"), NUMBER),
}
_PROCESS_KINDS: Mapping[str, Kind] = {
    "command": str,
    **dict.fromkeys(("pid", "parent", "memory_bytes"), WHOLE),
    **dict.fromkeys(("cpu_time_s", "since"), NUMBER),
}


def read_run_figures(value: Any) -> list[RunFigures]:
    """Return the figures in a value that was sent; what cannot be read is left out, and so is what is too much."""
    return [found for one in _listed(value, MOST_RUNS) if (found := _run_figures(one)) is not None]


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", ())}


def _run_figures(value: Any) -> RunFigures | None:
    if not isinstance(value, Mapping):
        return None
    found = readable(value, _KINDS, _MAX_TEXT)
    if not found.get("id") or "at" not in found:
        return None
    return RunFigures(**found, tree=tuple(_tree(value.get("tree"))))


def _tree(value: Any) -> Iterable[ProcessFigures]:
    for one in _listed(value, MOST_PROCESSES):
        found = readable(one, _PROCESS_KINDS, _MAX_TEXT) if isinstance(one, Mapping) else {}
        if "pid" in found:
            yield ProcessFigures(**found)


def _listed(value: Any, most: int) -> list[Any]:
    return value[:most] if isinstance(value, list) else []
