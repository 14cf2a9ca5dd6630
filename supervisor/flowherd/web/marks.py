"""How a state looks: its tone (a class of the style sheet), its glyph (SVG) and its word; never colour alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flowherd.states import SUCCESSFUL, UNSUCCESSFUL, RunState

_LINE = 'fill="none" stroke="currentColor"'
_DISC = '<circle cx="8" cy="8" r="6" fill="currentColor"/>'
_CIRCLE = f'<circle cx="8" cy="8" r="5.4" {_LINE} stroke-width="1.6"/>'
_HALF = _CIRCLE + '<path d="M8 2.6a5.4 5.4 0 0 1 0 10.8z" fill="currentColor"/>'
_TICK = f'<path d="M2.6 8.6l3.6 3.6 7.2-8" {_LINE} stroke-width="2.2"/>'
_CROSS = (
    '<rect x="1.5" y="1.5" width="13" height="13" rx="3" fill="currentColor"/>'
    '<path d="M5.2 5.2l5.6 5.6M10.8 5.2l-5.6 5.6" class="gx" stroke-width="1.8"/>'
)
_RING = f'<circle cx="8" cy="8" r="5.2" {_LINE} stroke-width="1.6"/>'
_BARRED = _RING + f'<path d="M4.4 11.6l7.2-7.2" {_LINE} stroke-width="1.6"/>'
_DASHED = _BARRED.replace('r="5.2"', 'r="5.2" stroke-dasharray="3 2"')
_TRIANGLE = (
    f'<path d="M8 1.8L14.6 13.6H1.4z" {_LINE} stroke-width="1.6" stroke-linejoin="round"/>'
    f'<path d="M8 6v3.6M8 11.2v.6" {_LINE} stroke-width="1.6"/>'
)
_CLOCK = _CIRCLE + f'<path d="M8 4.6V8.2l2.6 1.8" {_LINE} stroke-width="1.6"/>'
_PAUSE = f'<path d="M5 3v10M11 3v10" {_LINE} stroke-width="2.4"/>'
_BROKEN = f'<path d="M2 8h3M7 8h2M11 8h3" {_LINE} stroke-width="2"/>'


@dataclass(frozen=True)
class Mark:
    """The look of one state."""

    #: run, ok, bad, warn or wait.
    tone: str
    #: Content of an SVG of 16 by 16.
    glyph: str
    word: str


STUCK = Mark("warn", _TRIANGLE, "Stuck")
LATE = Mark("warn", _CLOCK, "Late")
#: States of an agent.
CONNECTED = Mark("ok", _DISC, "Connected")
POLLING = Mark("ok", _RING, "Polling")
PAUSED = Mark("wait", _PAUSE, "Paused")
DRAINING = Mark("warn", _CLOCK, "Draining")
AWAY = Mark("bad", _BROKEN, "Away")
#: Not there, and said so before.
STOPPED = Mark("wait", _BARRED, "Stopped")
#: A host or an agent that comes near a limit.
NEAR = Mark("warn", _TRIANGLE, "Near")

_OF_STATE = {
    **{state: Mark("ok", _TICK, state.value) for state in (*SUCCESSFUL, RunState.FINISHED, RunState.LOOPED)},
    **{state: Mark("bad", _CROSS, state.value) for state in (*UNSUCCESSFUL, RunState.CLIENT_FAILED)},
    RunState.RUNNING: Mark("run", _DISC, "Running"),
    RunState.SUBMITTED: Mark("run", _HALF, "Submitted"),
    RunState.CANCELLING: Mark("wait", _DASHED, "Cancelling"),
    RunState.CANCELLED: Mark("wait", _BARRED, "Cancelled"),
    RunState.PAUSED: PAUSED,
}
_OTHER = Mark("wait", _RING, "")


def mark_of(state: str, *, stuck: bool = False, late: bool = False) -> Mark:
    """Return the mark of a run's or task run's state; a stuck or late run has that of its trouble."""
    if stuck or late:
        return STUCK if stuck else LATE
    try:
        return _OF_STATE.get(RunState(state)) or replace(_OTHER, word=state)
    except ValueError:  # a state of another release
        return replace(_OTHER, word=state)
