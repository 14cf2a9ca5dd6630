"""How a command speaks: rich on a terminal, plain text when piped, JSON where a script asks for it.

rich is imported only where something is drawn: it is a third of the time that `flowherd --help` takes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

#: How a state is coloured on a terminal.
STATE_STYLES = {
    "Success": "green",
    "Failed": "bold red",
    "TimedOut": "bold red",
    "Cancelled": "yellow",
    "Cancelling": "yellow",
    "Running": "cyan",
    "Submitted": "blue",
}
LEVEL_STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}
#: Blanks between two columns.
_BETWEEN = 2
_LEAST_LAST_COLUMN = 12


def is_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout.isatty()


def say(text: str) -> None:
    """One line on standard output."""
    print(text, flush=True)


def note(text: str) -> None:
    """One line for the person beside the result: on standard error."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """One warning on standard error."""
    note(f"warning: {text}")


def fail(text: str) -> None:
    """The one line that a command ends badly with."""
    note("error: " + " ".join(text.split()))


def print_json(value: Any) -> None:
    """`value` as JSON, indented for people when they read it themselves."""
    say(json.dumps(value, default=_plain, ensure_ascii=False, indent=2 if is_terminal() else None))


def json_line(value: Any) -> str:
    """`value` as one line of JSON."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
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
    one_line_each: bool = False,
) -> None:
    """A table: drawn on a terminal, columns of blanks when piped.

    `styles` is one rich style a row, for its state. On a terminal the last column is folded to the width that is
    left, or with `one_line_each` cut.
    """
    rows = [[one_line(cell) for cell in row] for row in rows]
    if not is_terminal():
        for line in plain_table(columns, rows):
            say(line)
        return
    screen = console()
    shown = _cut_to_width(columns, rows, screen.width) if one_line_each else rows
    screen.print(rich_table(columns, shown, styles))


def _cut_to_width(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[Sequence[str]]:
    """The rows, each with its last cell cut so that it takes one line; rich would shrink the other columns too."""
    others = [max(len(line[place]) for line in [columns, *rows]) for place in range(len(columns) - 1)]
    room = max(_LEAST_LAST_COLUMN, width - sum(others) - _BETWEEN * len(others))
    return [[*row[:-1], row[-1] if len(row[-1]) <= room else row[-1][: room - 1] + "…"] for row in rows]


def rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] | None = None) -> Any:
    """The same table for rich; the last column is folded to what is left of the width."""
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
    """The lines of a table without any drawing; the last column is not padded."""
    lines = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return [
        (" " * _BETWEEN).join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def one_line(text: str) -> str:
    """`text` without line breaks and control characters, which would tear a table or drive the terminal."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def safe(text: str) -> str:
    """A log line as a terminal may show it: what would drive the terminal is escaped, tabs stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\t\n" else f"\\x{ord(c):02x}" for c in text)


def console() -> Console:
    """A rich console on standard output."""
    from rich.console import Console

    return Console(highlight=False)
