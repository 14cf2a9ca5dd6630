"""Colours of a terminal's own sixteen, and which states have which. Never the only sign: the word stands there."""

from __future__ import annotations

import os
import sys

#: Select Graphic Rendition (ECMA-48, 8.3.117) of each style.
STYLES = {
    "bold": "1",
    "dim": "2",
    "good": "32",
    "bad": "1;31",
    "warn": "33",
    "run": "36",
    "taken": "34",
}
_OF_STATES = {
    "Success": "good",
    "Failed": "bad",
    "TimedOut": "bad",
    "TriggerFailed": "bad",
    "ValidationFailed": "bad",
    "Cancelled": "warn",
    "Cancelling": "warn",
    "Running": "run",
    "Submitted": "taken",
    "Late": "warn",
    "Stuck": "warn",
    "away": "bad",
    "paused": "warn",
    "draining": "warn",
}


def state_style(cell: str) -> str:
    """Return the style of a cell whose first word is a state, of a run or of an agent."""
    return _OF_STATES.get(cell.partition(" ")[0], "")


def styled(text: str, style: str) -> str:
    """Return `text` in this style; as it is for an empty one."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if style and text else text


def uses_colours() -> bool:
    """Return whether standard output is a terminal with colours that nobody has switched off (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in ("dumb", "")
