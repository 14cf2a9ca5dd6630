"""The tone of a state: which of five colours, beside its word and glyph, tells how things stand."""

from __future__ import annotations

from enum import Enum

from flowherd.states import ACTIVE, SUCCESSFUL, UNSUCCESSFUL, RunState


class Tone(str, Enum):
    """How things stand."""

    RUN = "run"
    OK = "ok"
    BAD = "bad"
    WARN = "warn"
    WAIT = "wait"

    __str__ = str.__str__


def tone_of(state: str) -> Tone:
    """Return the tone of a run's state."""
    if state in SUCCESSFUL:
        return Tone.OK
    if state in UNSUCCESSFUL or state == RunState.CLIENT_FAILED:
        return Tone.BAD
    is_running = state in (ACTIVE - {RunState.CANCELLING}) or state == RunState.SUBMITTED
    return Tone.RUN if is_running else Tone.WAIT
