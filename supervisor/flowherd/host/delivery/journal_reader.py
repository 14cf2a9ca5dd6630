"""Reads a run's journal as log lines, in batches, while the run goes on or after it has ended.

Knows the journal's records and LogLine, and not where the lines go.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from flowherd.journal_content import record_content
from flowherd.values import LogLine
from flowherd_runner.contract.files import open_regular
from flowherd_runner.contract.journal import (
    HEADER_BYTES,
    MAX_LINE_BYTES,
    STREAM_NAMES,
    STREAM_STDERR,
    Record,
    unpack_all,
)

#: Longest record, bytes.
MAX_RECORD_BYTES = HEADER_BYTES + 2 * MAX_LINE_BYTES
#: Size of one batch for readers of a whole journal, bytes.
BATCH_BYTES = 4 * 1024 * 1024

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def read_batch(
    path: Path, flow_run_id: str, offset: int, max_bytes: int, attempt: str = ""
) -> tuple[list[LogLine], int]:
    """Return the lines of the complete records in at most `max_bytes` from `offset`, and the offset after them.

    A record that is incomplete, because it is still being written or because the batch ends inside it, is left for
    later; a batch is therefore never smaller than twice the largest record. No lines and the same offset mean that
    there is nothing more now. A missing journal counts as empty. `attempt` keeps the line ids of a flow run that was
    started twice apart.

    Text so far is among the lines, unless the batch holds what replaces it; standing text so far in any case.

    Raises OSError when the journal cannot be read.
    """
    size = max(max_bytes, 2 * MAX_RECORD_BYTES)
    try:
        fd = open_regular(str(path), os.O_RDONLY)
    except FileNotFoundError:
        return [], offset
    with os.fdopen(fd, "rb") as file:
        file.seek(offset)
        data = file.read(size)
    lines = []
    end = offset
    for record in unpack_all(data, offset):
        lines.append(_line(record, flow_run_id, attempt))
        end = record.end
    if end == offset and len(data) == size:
        # Room for the largest record, and no record: the journal is damaged here.
        end = offset + size - MAX_RECORD_BYTES + 1
    return without_replaced(lines, keep_standing=True), end


def without_replaced(lines: Sequence[LogLine], *, keep_standing: bool = False) -> list[LogLine]:
    """Return the lines without text so far that later ones replace; `keep_standing` keeps standing text so far."""
    if not any(line.so_far for line in lines):
        return list(lines)
    kept = []
    replaced: set[str] = set()
    for line in reversed(lines):
        if not (line.so_far and line.stream in replaced) or (keep_standing and line.standing):
            kept.append(line)
        replaced.add(line.stream)
    return kept[::-1]


def _line(record: Record, flow_run_id: str, attempt: str) -> LogLine:
    content = record_content(record.stream, record.payload)
    return LogLine(
        flow_run_id=flow_run_id,
        at=_EPOCH + timedelta(microseconds=record.time_ns // 1000),
        stream=STREAM_NAMES.get(record.stream, "log"),
        level=record.level or (logging.ERROR if record.stream == STREAM_STDERR else logging.INFO),
        logger=content.logger,
        message=content.message,
        line_id=f"{attempt}:{record.offset}" if attempt else str(record.offset),
        task_run_id=content.task_run_id,
        subflow_run_id=None if content.flow_run_id == flow_run_id else content.flow_run_id,
        info=content.info,
        so_far=record.so_far,
        standing=record.standing,
    )
