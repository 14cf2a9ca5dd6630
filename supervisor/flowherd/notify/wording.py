"""The titles of notifications."""

from __future__ import annotations

from flowherd.host_figures import DiskFigures
from flowherd.notify.changes import Change
from flowherd.notify.kinds import Kind
from flowherd.notify.message import title
from flowherd.shown_times import spoken_size


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


def memory_title(flow: str, used_bytes: int, limit_bytes: int) -> str:
    """Return how much of its memory limit a run uses."""
    share = f"{used_bytes / limit_bytes * 100:.0f} %"
    return title(f"{flow} uses {share} of its memory limit of {spoken_size(limit_bytes)}")


def disk_title(disk: DiskFigures, host: str, *, is_low: bool) -> str:
    """Return how much room a disk has."""
    how = "is nearly full" if is_low else "has room again"
    room = f"{spoken_size(disk.free_bytes)} of {spoken_size(disk.total_bytes)} are free"
    return title(f"The disk of {disk.path} on {host} {how}: {room}")


def spool_title(agent: str, unsent_bytes: int, most_bytes: int, *, is_much: bool) -> str:
    """Return how much output an agent has that its backend does not have yet."""
    size = spoken_size(unsent_bytes)
    if not is_much:
        return title(f"{agent} has sent its output: {size} are left")
    return title(
        f"{agent} has {size} of output that the server does not have yet, of {spoken_size(most_bytes)} at most"
    )
