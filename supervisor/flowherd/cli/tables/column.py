"""What describes a column of a table, and how rows are sorted by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError

Row = TypeVar("Row")


class Cut(Enum):
    """How the cells of a column may be cut where the terminal is narrow."""

    #: Ids, states, times, counts, sizes, versions.
    NEVER = "never"
    #: Names: both ends tell them apart.
    MIDDLE = "middle"
    #: Sentences.
    END = "end"


def _no_style(cell: str) -> str:
    return ""


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column: its title, what stands in it, and what becomes of it where there is little room."""

    title: str
    #: The cell of a row, as a terminal shows it.
    text: Callable[[Row], str]
    #: The cell where nothing is cut (in a pipe, --wide); None if it is the same.
    full: Callable[[Row], str] | None = None
    cut: Cut = Cut.NEVER
    #: Width below which the column is dropped, columns; of Cut.NEVER it is that of the longest cell.
    least: int = 8
    #: Width up to which the column comes before those that follow in `layout.widths`.
    best: int = 24
    #: 1 is never dropped; of the others, higher ones are dropped first.
    rank: int = 1
    #: What rows are sorted by; None for the cell itself. Rows for which it is None come last.
    order: Callable[[Row], Any] | None = None
    #: The style of a cell, one of styles.STYLES or empty.
    style: Callable[[str], str] = _no_style

    @property
    def name(self) -> str:
        """Its name in --fields and --sort."""
        return self.title.lower().replace(" ", "-")

    def whole(self, row: Row) -> str:
        """Return the cell of a row where nothing is cut."""
        return (self.full or self.text)(row)


def chosen(columns: Sequence[Column[Row]], names: str | None, option: str = "--fields") -> Sequence[Column[Row]]:
    """Return the columns that `names`, separated by commas, names, in that order; all without `names`.

    Raises CommandError for a name that no column has.
    """
    return [_named(columns, name, option) for name in names.split(",")] if names else columns


def sorted_by(
    columns: Sequence[Column[Row]], key: str | None, rows: Iterable[Row], option: str = "--sort"
) -> list[Row]:
    """Return the rows sorted by the column that `key` names, descending after a minus; as they are without `key`.

    Rows that have nothing in that column come last, either way. Raises CommandError for an unknown name.
    """
    if not key:
        return list(rows)
    column = _named(columns, key.removeprefix("-"), option)
    order = column.order or column.whole
    keyed = [(order(row), row) for row in rows]
    known = [pair for pair in keyed if pair[0] not in (None, "")]
    known.sort(key=lambda pair: pair[0], reverse=key.startswith("-"))
    return [row for _, row in known] + [row for found, row in keyed if found in (None, "")]


def _named(columns: Sequence[Column[Row]], name: str, option: str) -> Column[Row]:
    wanted = name.strip().lower()
    for column in columns:
        if column.name == wanted:
            return column
    known = ", ".join(column.name for column in columns)
    raise CommandError(f"{option} {name.strip()!r} is no column; the columns are {known}", exit_codes.USAGE)
