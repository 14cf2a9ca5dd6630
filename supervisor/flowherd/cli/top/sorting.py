"""The list sorted by one column, in the place of the one order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flowherd.cli.top.picture import Picture, RunRow


def _elapsed_s(row: RunRow, picture: Picture) -> float | None:
    return None if row.started is None else ((row.ended or picture.at) - row.started).total_seconds()


def _cpu(row: RunRow, picture: Picture) -> float | None:
    return row.figures.cpu_percent if row.figures is not None else None


def _memory(row: RunRow, picture: Picture) -> float | None:
    return row.figures.memory_bytes if row.figures is not None else None


#: What the greatest number of each comes first of, by the name that the head shows.
SORTS: dict[str, Callable[[RunRow, Picture], float | None]] = {"memory": _memory, "CPU": _cpu, "elapsed": _elapsed_s}


def in_sort(picture: Picture, name: str) -> Picture:
    """Return the picture with its rows sorted, the greatest first; those that have nothing there stay last."""
    keyed = [(SORTS[name](row, picture), row) for row in picture.rows]
    known = sorted((pair for pair in keyed if pair[0] is not None), key=lambda pair: -(pair[0] or 0))
    return replace(picture, rows=[row for _, row in known] + [row for key, row in keyed if key is None])
