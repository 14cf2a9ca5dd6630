"""What flowherd's agents note in the states that they report. Anybody can report states, so it may be anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowherd.phase_times import known_phases


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What an agent noted in a state; None for what no flowherd agent has noted."""

    #: Pid of the flow process.
    pid: int | None
    #: One of flowherd_runner.contract.reasons.
    reason: str | None
    grade: str | None
    #: When the run went on, seconds since the epoch; see known_phases.
    phases: tuple[tuple[str, float], ...] = ()
    #: Who asked for it; see story/asked_by.py.
    by: str | None = None


def marks(row: Mapping[str, Any]) -> Marks:
    """Return what is in the `serialized_state` of a row."""
    found: Any = row["serialized_state"]
    for key in ("context", "flowherd"):
        found = found.get(key) if isinstance(found, dict) else None
    ours = found if isinstance(found, dict) else {}
    pid, reason, grade, by = (ours.get(name) for name in ("pid", "reason", "grade", "by"))
    return Marks(
        pid=pid if type(pid) is int else None,
        reason=reason if isinstance(reason, str) else None,
        grade=grade if isinstance(grade, str) else None,
        phases=known_phases(ours.get("phases")),
        by=by if isinstance(by, str) else None,
    )
