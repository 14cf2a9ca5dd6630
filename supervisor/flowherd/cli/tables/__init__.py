"""The tables that list commands print: one description per column, fitted to the terminal, complete in a pipe.

    RUNS = (
        Column("ID", lambda run: run.id[:8], full=lambda run: run.id, cut=Cut.NEVER, rank=1),
        Column("STATE", lambda run: run.state, cut=Cut.NEVER, rank=1, style=state_style),
        Column("SAYS", lambda run: run.message, cut=Cut.END, least=16, best=60, rank=2),
    )
    show_table(RUNS, runs, wide=wide, more="117 more scheduled: --all")

column   what describes a column, and how rows are sorted by one
cells    the width of a text on a terminal, and cutting it
layout   which columns fit, and how wide each is
styles   colours, and which states have which
show     prints a table
"""

from __future__ import annotations

from flowherd.cli.tables.column import Column, Cut, chosen, sorted_by
from flowherd.cli.tables.show import show_table, table_lines
from flowherd.cli.tables.styles import state_style

__all__ = ["Column", "Cut", "chosen", "show_table", "sorted_by", "state_style", "table_lines"]
