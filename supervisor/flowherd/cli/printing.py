"""Printing: rich on a terminal, plain text into a pipe, JSON when a script asks for it.

Every text passes through `shown_text`, because names and messages in it come from others. rich is
imported only when something is drawn: it takes a third of the time of `flowherd --help`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowherd.line_writer import STANDARD_ERROR
from flowherd.shown_text import json_text, lines, one_line

if TYPE_CHECKING:
    from rich.console import Console

#: Rich style of each state of a run.
STATE_STYLES = {
    "Success": "green",
    "Failed": "bold red",
    "TimedOut": "bold red",
    "Cancelled": "yellow",
    "Cancelling": "yellow",
    "Running": "cyan",
    "Submitted": "blue",
}
#: Rich style of each level of a log line.
LEVEL_STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}
#: Number of blanks between two columns.
_COLUMN_GAP = 2


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def print_line(text: str) -> None:
    """Print one line on standard output."""
    print(one_line(text), flush=True)


def print_file(text: str) -> None:
    """Print the text of a file, which a pipe gets as it is."""
    print(lines(text) if is_terminal() else text, flush=True)


def print_note(text: str) -> None:
    """Print one line for the person beside the result: on standard error.

    If that is a pipe that nobody reads or a file on a full disk, the command goes on without the line.
    """
    STANDARD_ERROR.write_lines(one_line(text) + "\n")
    STANDARD_ERROR.flush()


def print_warning(text: str) -> None:
    """Print one warning on standard error."""
    print_note(f"warning: {text}")


def print_error(text: str) -> None:
    """Print why a command failed, as one line on standard error."""
    print_note("error: " + " ".join(text.split()))


def print_json(value: Any) -> None:
    """Print `value` as JSON, indented on a terminal."""
    print(json_text(value, _json_value, indent=2 if is_terminal() else None), flush=True)


def json_line(value: Any) -> str:
    """Return `value` as one line of JSON."""
    return json_text(value, _json_value)


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path | Enum):
        return str(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    styles: Sequence[str] | None = None,
) -> None:
    """Print a table: drawn by rich on a terminal, columns separated by blanks in a pipe.

    `styles` holds the rich style of each row's STATE cell. On a terminal the last column is folded to the remaining
    width. Lists are drawn by cli/tables instead.
    """
    rows = [[one_line(cell) for cell in row] for row in rows]
    if not is_terminal():
        for line in plain_table(columns, rows):
            print(line, flush=True)
        return
    console().print(rich_table(columns, rows, styles))


def rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] | None = None) -> Any:
    """Return a table for rich; its last column is folded to the remaining width."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        folded = column == columns[-1]
        table.add_column(column, overflow="fold" if folded else "ellipsis", no_wrap=not folded)
    for number, row in enumerate(rows):
        style = styles[number] if styles else ""
        cells = [Text(cell, style=style if columns[place] == "STATE" else "") for place, cell in enumerate(row)]
        table.add_row(*cells)
    return table


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table without any drawing; the last column is not padded."""
    lines = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return [
        (" " * _COLUMN_GAP).join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def console() -> Console:
    """Return a rich console on standard output."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)
