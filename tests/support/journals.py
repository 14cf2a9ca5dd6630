"""Reading whole journals."""

from __future__ import annotations

from pathlib import Path

from flowherd.host.delivery.journal_reader import read_batch
from flowherd.values import LogLine


def read_lines(journal: Path, flow_run_id: str) -> list[LogLine]:
    """Return all lines that the journal holds now, read in the smallest batches."""
    lines: list[LogLine] = []
    offset = 0
    while True:
        batch, end = read_batch(journal, flow_run_id, offset, 1)
        lines += batch
        if end == offset:
            return lines
        offset = end
