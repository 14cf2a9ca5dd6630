"""Prints a table: fitted to a terminal, or with nothing cut into a pipe and with --wide."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence

from flowherd.cli.tables.cells import cut_end, cut_middle, padded, width_of
from flowherd.cli.tables.column import Column, Cut, Row
from flowherd.cli.tables.layout import GAP, fit
from flowherd.cli.tables.styles import styled, uses_colours
from flowherd.line_writer import STANDARD_ERROR
from flowherd.shown_text import one_line

_CUTS: dict[Cut, Callable[[str, int], str]] = {
    Cut.NEVER: lambda cell, width: cell,
    Cut.MIDDLE: cut_middle,
    Cut.END: cut_end,
}


def show_table(columns: Sequence[Column[Row]], rows: Sequence[Row], *, wide: bool = False, more: str = "") -> None:
    """Print a table: one line per row, fitted to the terminal; with `wide` and in a pipe nothing is cut.

    `more` says which rows are not shown and how to see them, such as "12 more: --all"; it goes below the table, in a
    pipe to standard error. Texts of others are made harmless (shown_text.py).
    """
    is_terminal = sys.stdout.isatty()
    width = terminal_width() if is_terminal and not wide else None
    coloured = uses_colours()
    lines = table_lines(columns, rows, width, coloured=coloured)
    if more and is_terminal:
        lines.append(styled(f"… {one_line(more)}", "dim" if coloured else ""))
    print("\n".join(lines), flush=True)
    if more and not is_terminal:
        STANDARD_ERROR.write_lines(f"… {one_line(more)}\n")
        STANDARD_ERROR.flush()


def terminal_width() -> int:
    """Return the terminal's width, columns."""
    return shutil.get_terminal_size().columns


def table_lines(
    columns: Sequence[Column[Row]], rows: Sequence[Row], width: int | None, *, coloured: bool = False
) -> list[str]:
    """Return the lines of a table, the titles first; `width` is the terminal's, None if nothing is to be cut."""
    if width is None:
        cells = [[one_line(column.whole(row)) for column in columns] for row in rows]
        places = [
            (n, max(map(width_of, [column.title, *(row[n] for row in cells)]))) for n, column in enumerate(columns)
        ]
    else:
        cells = [[one_line(column.text(row)) for column in columns] for row in rows]
        places = fit(columns, cells, width)
    titles = _line([(columns[n].title, "bold", wide) for n, wide in places], coloured)
    return [titles, *(_line([_cell(columns[n], row[n], wide) for n, wide in places], coloured) for row in cells)]


def _cell(column: Column[Row], cell: str, width: int) -> tuple[str, str, int]:
    return _CUTS[column.cut](cell, width), column.style(cell), width


def _line(cells: Sequence[tuple[str, str, int]], coloured: bool) -> str:
    """Return a line of cells, each with its style and width; without blanks at its end."""
    while len(cells) > 1 and not cells[-1][0]:
        cells = cells[:-1]
    *others, (last, last_style, _) = cells
    parts = [
        styled(text, style if coloured else "") + padded("", width - width_of(text)) for text, style, width in others
    ]
    return (" " * GAP).join([*parts, styled(last, last_style if coloured else "")])
