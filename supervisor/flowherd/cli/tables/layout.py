"""Which columns of a table fit on a terminal, and how wide each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowherd.cli.tables.cells import width_of
from flowherd.cli.tables.column import Column, Cut, Row

#: Number of blanks between two columns.
GAP = 2
#: In this order columns get what is left of the width.
_ROUNDS = ((Cut.MIDDLE, True), (Cut.END, True), (Cut.MIDDLE, False), (Cut.END, False))


def fit(columns: Sequence[Column[Row]], cells: Sequence[Sequence[str]], width: int) -> list[tuple[int, int]]:
    """Return the place and the width of each column that is shown, in their order.

    `cells` are the rows. Columns of rank 1 are always shown, even if they need more than `width`; one of another rank
    if its least width fits beside those of lower ranks; none, except the first, that is empty in all rows.
    """
    longest = [max(map(width_of, [column.title, *(row[n] for row in cells)])) for n, column in enumerate(columns)]
    least = [
        most if column.cut is Cut.NEVER else min(most, max(column.least, len(column.title)))
        for column, most in zip(columns, longest, strict=True)
    ]
    shown = _shown(columns, cells, least, width)
    widths = {n: least[n] for n in shown}
    left = width - sum(widths.values()) - GAP * (len(shown) - 1)
    for cut, only_best in _ROUNDS:
        most = {
            n: min(longest[n], max(columns[n].best, least[n])) if only_best else longest[n]
            for n in shown
            if columns[n].cut is cut
        }
        left -= _widen(widths, most, left)
    return sorted(widths.items())


def _widen(widths: dict[int, int], most: Mapping[int, int], room: int) -> int:
    """Give the columns `room`, the same to each until it has its most; return how much was given."""
    left = room
    while left > 0 and (hungry := [n for n, wanted in most.items() if widths[n] < wanted]):
        for n in hungry:
            given = min(max(1, left // len(hungry)), most[n] - widths[n], left)
            widths[n] += given
            left -= given
    return room - left


def _shown(
    columns: Sequence[Column[Row]], cells: Sequence[Sequence[str]], least: Sequence[int], width: int
) -> list[int]:
    filled = [n for n in range(len(columns)) if n == 0 or not cells or any(row[n] for row in cells)]
    shown: list[int] = []
    used = -GAP
    for n in sorted(filled, key=lambda place: columns[place].rank):
        if columns[n].rank == 1 or used + GAP + least[n] <= width:
            shown.append(n)
            used += GAP + least[n]
    return shown
