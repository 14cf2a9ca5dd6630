"""Text so far: what streams of runs have written of a line that is not finished yet; one row for each of them.

Requests can be repeated, and overtake one another, so the later of two times wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import Connection

from flowherd_server.store.plain import plain
from flowherd_server.store.tables import TEXT_SO_FAR

_REPLACE = (
    f"INSERT INTO {TEXT_SO_FAR.name} (id, flow_run_id, stream, timestamp, name, level, message) "
    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (flow_run_id, stream) DO UPDATE SET timestamp = excluded.timestamp, "
    "name = excluded.name, level = excluded.level, message = excluded.message "
    f"WHERE excluded.timestamp >= {TEXT_SO_FAR.name}.timestamp"
)
_DELETE = f"DELETE FROM {TEXT_SO_FAR.name} WHERE flow_run_id = ? AND stream = ? AND timestamp <= ?"


class TextSoFar(NamedTuple):
    """One row without its keys."""

    flow_run_id: str
    stream: str
    timestamp: int
    name: str | None
    level: str
    message: str


def replace_texts(connection: Connection, texts: Iterable[TextSoFar]) -> None:
    """Store the texts in place of earlier ones of their runs and streams."""
    rows: list[tuple[Any, ...]] = [(str(uuid4()), *text) for text in texts]
    if rows:
        plain(connection).executemany(_REPLACE, rows)


def delete_finished(connection: Connection, finished: dict[tuple[str, str], int]) -> None:
    """Delete what lines have finished; `finished` has the latest time of a line by run id and stream."""
    if finished:
        plain(connection).executemany(_DELETE, [(*key, timestamp) for key, timestamp in finished.items()])
