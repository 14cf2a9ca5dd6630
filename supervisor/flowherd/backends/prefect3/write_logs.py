"""Write lines of flow runs' logs, each once, in requests of the size that the server accepts.

The server has no line ids, so a line is recognised by its run, time, logger, level and text. flowherd's times strictly
increase within a run, including its subflows, so this is as exact as an id. Before the first request for a run or
subflow, and after one whose answer was lost, the server is asked which of the lines it has already. A request that is
still being carried out then is not seen, and its lines can be stored twice.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from flowherd.backends import json_values
from flowherd.backends.decoding import decoding
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendUnavailable
from flowherd.shown_text import storable
from flowherd.values import LogLine

#: Prefix of the logger of raw output, so that its lines differ from records that the run itself has logged.
_RAW_LOGGER_PREFIX = "flowherd."
_RAW_STREAMS = frozenset({"stdout", "stderr"})
#: Maximum size of one request, bytes and lines.
_MAX_REQUEST_BYTES = 900_000
_MAX_REQUEST_LINES = 1000
#: Maximum length of a message, characters: that of Prefect's own client. The server's database has no limit.
_MAX_MESSAGE_CHARACTERS = 900_000
#: Number of lines in one answer to a query for logs.
_PAGE_LINES = 200
#: Maximum number of pages read for a run; more than a request has lines, because other loggers' lines are among them.
_MAX_PAGES = 100
#: Maximum number of runs remembered whose stored logs need no check.
_MAX_KNOWN = 10_000

#: A line as it is recognised: run, time, logger, level and text.
_Key = tuple[str, datetime | None, str, int, str]


class LogWriter:
    """Writes log lines; usable from several threads."""

    def __init__(self, transport: Prefect3Transport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        #: Ids of the runs and subflows of which all stored lines were written here, oldest first.
        self._known: OrderedDict[str, None] = OrderedDict()

    def write(self, lines: Sequence[LogLine]) -> None:
        """Write lines. Raises BackendUnavailable if some of them may not be stored; send all of them again then."""
        journals = {_owner(line): line.flow_run_id for line in lines}
        for batch in _batches(_row(line) for line in lines):
            self._send(batch, journals)

    def begin(self, run_id: str) -> None:
        """Note that the run has just been claimed here, so none of its lines can be stored yet."""
        self._remember([run_id])

    def _send(self, rows: list[dict[str, Any]], journals: Mapping[str, str]) -> None:
        """Send one batch. `journals` is, for each run or subflow, the run whose journal its lines come from."""
        run_ids = {row["flow_run_id"] for row in rows}
        new = run_ids - set(self._known)
        # One query for each journal: a run can have as many subflows as lines.
        for journal in sorted({journals[run_id] for run_id in new}):
            rows = self._without_stored({run_id for run_id in new if journals[run_id] == journal}, rows)
        if not rows:
            self._remember(run_ids)
            return
        try:
            self._transport.post("/logs/", rows, once=True)
        except BackendUnavailable:
            self._forget(run_ids)
            raise
        self._remember(run_ids)

    def _without_stored(self, run_ids: set[str], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows without those lines of `run_ids` that the server has already."""
        times = [row["timestamp"] for row in rows if row["flow_run_id"] in run_ids]
        stored = set(self._stored(sorted(run_ids), min(times), max(times)))
        return [row for row in rows if row["flow_run_id"] not in run_ids or _key(row) not in stored]

    def _stored(self, run_ids: list[str], first: str, last: str) -> Iterator[_Key]:
        """Yield the lines of these runs that the server has between two times."""
        wanted = {"flow_run_id": {"any_": run_ids}, "timestamp": {"after_": first, "before_": last}}
        for number in range(_MAX_PAGES * len(run_ids)):
            query = {"logs": wanted, "limit": _PAGE_LINES, "offset": number * _PAGE_LINES}
            page = self._transport.post("/logs/filter", query)
            with decoding(f"the log of flow run {run_ids[0]}", self._transport.address):
                keys = [_key(row) for row in json_values.mappings_not_null(page)]
            yield from keys
            if len(keys) < _PAGE_LINES:
                return

    def _remember(self, run_ids: Iterable[str]) -> None:
        with self._lock:
            self._known.update(dict.fromkeys(run_ids))
            while len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)

    def _forget(self, run_ids: Iterable[str]) -> None:
        with self._lock:
            for run_id in run_ids:
                self._known.pop(run_id, None)


def _owner(line: LogLine) -> str:
    """Return the id of the flow run or subflow in whose log the line belongs."""
    return line.subflow_run_id or line.flow_run_id


def _row(line: LogLine) -> dict[str, Any]:
    return {
        "flow_run_id": _owner(line),
        "task_run_id": line.task_run_id,
        "timestamp": line.at.isoformat(),
        "name": storable(_RAW_LOGGER_PREFIX + line.stream if line.stream in _RAW_STREAMS else line.logger),
        "level": int(line.level),
        "message": storable(line.message)[:_MAX_MESSAGE_CHARACTERS],
    }


def _key(row: Any) -> _Key:
    name, message = json_values.text(row["name"]), json_values.text(row["message"])
    run_id, at = json_values.text(row["flow_run_id"]), json_values.time_or_none(row["timestamp"])
    return (run_id, at, name, json_values.integer(row["level"]), message)


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Divide rows into batches of at most _MAX_REQUEST_LINES and, if possible, _MAX_REQUEST_BYTES."""
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        length = len(json.dumps(row))
        if batch and (size + length > _MAX_REQUEST_BYTES or len(batch) == _MAX_REQUEST_LINES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch
