"""The sign, the word and the style of a run's state. The sign is never the only one: a word stands beside it."""

from __future__ import annotations

from typing import NamedTuple

from flowherd.cli.top.picture import RunRow
from flowherd.states import SUCCESSFUL, RunState
from flowherd.story.order import BAD, Group


class Mark(NamedTuple):
    """How a state is shown."""

    sign: str
    word: str
    style: str


_SIGNS = {
    RunState.RUNNING: ("●", "run"),
    RunState.SUBMITTED: ("◐", "run"),
    RunState.CANCELLING: ("◌", ""),
    RunState.PAUSED: ("‖", ""),
    RunState.CANCELLED: ("⊘", ""),
}


def mark_of(row: RunRow) -> Mark:
    """Return how the state of a run is shown."""
    if row.stuck:
        return Mark("▲", "Stuck", "warn")
    if row.group is Group.DUE:
        return Mark("◷", "Late", "warn")
    streak = f" \N{MULTIPLICATION SIGN}{row.count}" if row.group is Group.FAILED and row.count > 1 else ""
    return state_mark(row.state, streak)


def state_mark(state: str, more: str = "") -> Mark:
    """Return how a state is shown; `more` is added to its word."""
    if state in BAD:
        return Mark("✕", state + more, "bad")
    if state in SUCCESSFUL:
        return Mark("✓", state + more, "ok")
    sign, style = next((found for name, found in _SIGNS.items() if name == state), ("○", ""))
    return Mark(sign, state + more, style)
