"""The titles of notifications."""

from __future__ import annotations

from flowherd.notify.changes import Change
from flowherd.notify.kinds import Kind
from flowherd.notify.message import title


def end_title(flow: str, kind: Kind, change: Change, count: int, message: str) -> str:
    """Return the title for a run that ended badly; `count` is the number of failures in a row, `message` the cause."""
    what = "was lost" if kind is Kind.LOST else "failed"
    often = {Change.NEW: "", Change.OTHER: " again, for another reason", Change.AGAIN: f" {count} times in a row"}
    cause = message.strip().splitlines()
    return title(f"{flow} {what}{often.get(change, '')}" + (f": {cause[0]}" if cause else ""))


def recovery_title(flow: str, count: int) -> str:
    """Return the title for the first good run of a flow after failures."""
    return title(f"{flow} succeeds again, after {count} failure{'' if count == 1 else 's'}")


def missed_title(flow: str, count: int) -> str:
    """Return the title for times of a schedule that will have no run."""
    return title(f"{flow} missed {'a scheduled run' if count == 1 else f'{count} scheduled runs'}")
