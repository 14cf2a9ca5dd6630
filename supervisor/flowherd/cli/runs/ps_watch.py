"""`flowherd ps --watch`: the list anew every few seconds, on a terminal in place of the last one."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from flowherd.cli.format_times import local_time
from flowherd.cli.tables.cells import cut_end
from flowherd.cli.tables.styles import styled, uses_colours
from flowherd.errors import BackendUnavailable
from flowherd.shown_text import one_line

if TYPE_CHECKING:
    from flowherd.cli.runs.ps_rows import Listed

#: Switch to the terminal's other screen without its cursor, and back (xterm's private modes 1049 and 25).
_BEGIN, _END = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
#: To the first column and line; erase to the end of the line, and of the screen (ECMA-48).
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
#: Lines around the table: the head, and what is not shown.
_AROUND = 2


def watch_list(
    look: Callable[[int], Listed], lines_of: Callable[[Listed, int | None, bool], list[str]], interval_s: float
) -> None:
    """Show what `look` finds until Ctrl-C; it is given the number of lines that there are for it.

    While the server does not answer the last list stays, and the head says so. In a pipe, or on a terminal that cannot
    be drawn on, one list follows the other with a blank line between them.
    """
    drawn = sys.stdout.isatty() and uses_cursor()
    sys.stdout.write(_BEGIN if drawn else "")
    last: list[str] = []
    more, away_since, reason = "", None, ""
    try:
        while True:
            width, height = shutil.get_terminal_size()
            try:
                found = look(height - _AROUND)
                last, more, away_since = (
                    lines_of(found, width if sys.stdout.isatty() else None, uses_colours()),
                    found.more,
                    None,
                )
            except BackendUnavailable as error:
                away_since, reason = away_since or datetime.now(timezone.utc), str(error)
            head = _head(interval_s, away_since, reason)
            (_draw if drawn else _print)(head, last, more, width, height)
            time.sleep(interval_s)
    finally:
        sys.stdout.write(_END if drawn else "")
        sys.stdout.flush()


def uses_cursor() -> bool:
    """Return whether the terminal knows how to move its cursor."""
    import os

    return os.environ.get("TERM", "dumb") not in ("", "dumb")


def _head(interval_s: float, away_since: datetime | None, reason: str) -> str:
    now = local_time(datetime.now(timezone.utc))
    if away_since is not None:
        return f"{now}  no answer since {local_time(away_since)}, trying again: {reason}"
    return f"{now}  every {interval_s:g} s, Ctrl-C ends it"


def _draw(head: str, table: list[str], more: str, width: int, height: int) -> None:
    rest = [f"… {more}"] if more else []
    fitting = table[: height - 1 - len(rest)]
    if len(fitting) < len(table):
        rest = [
            f"… {len(table) - len(fitting)} rows that do not fit: leave out --watch" + (f"; {more}" if more else "")
        ]
        fitting = table[: height - 2]
    coloured = uses_colours()
    edge = [styled(cut_end(one_line(line), width), "dim" if coloured else "") for line in (head, *rest)]
    lines = [edge[0], *fitting, *edge[1:]]
    sys.stdout.write(_HOME + f"{_CLEAR_LINE}\n".join(lines) + _CLEAR_LINE + _CLEAR_BELOW)
    sys.stdout.flush()


def _print(head: str, table: list[str], more: str, width: int, height: int) -> None:
    print("\n".join([one_line(head), *table, *([f"… {more}"] if more else []), ""]), flush=True)
