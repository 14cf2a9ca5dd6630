"""Lines of flow runs' logs in the server's shape and in requests that it takes.

The server knows no line ids, so a line is recognised by its run, time, logger, level and text: flowherd's times
increase strictly within a run, those of its subflows included, which makes that as good as an id. Before the first
request about a run or subflow, and after one whose answer was lost, the server is asked what it has of the lines that
are to be sent. A request that is still under way at that time is not seen; its lines can be there twice.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from flowherd.backends import json_values
from flowherd.backends.prefect3.rows import objects
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendUnavailable
from flowherd.values import LogLine

#: Before the name of a raw stream, which tells its lines from records that the run itself has logged.
RAW_LOGGER = "flowherd."
_RAW_STREAMS = frozenset({"stdout", "stderr"})
_REQUEST_BYTES = 900_000
_REQUEST_LINES = 1000
#: Prefect's own client cuts there; a database row of any size would be taken.
_MOST_CHARACTERS = 900_000
#: Of one answer to a question for logs.
_PAGE = 200
#: More than a request has lines, for other loggers' are among them.
_MOST_PAGES = 100
#: Runs whose logs are known not to hold anything unexpected.
_MOST_KNOWN = 10_000

_Key = tuple[str, datetime | None, str, int, str]


class RunLogs:
    """Writes lines, each once so far as that can be known. From several threads."""

    def __init__(self, transport: Prefect3Transport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._known: OrderedDict[str, None] = OrderedDict()

    def write(self, lines: Sequence[LogLine]) -> None:
        """Raises BackendUnavailable when some of the lines may not have arrived; sending all again is right then."""
        journals = {_owner(line): line.flow_run_id for line in lines}
        for batch in _batches(_row(line) for line in lines):
            self._send(batch, journals)

    def begin(self, run_id: str) -> None:
        """The run has just been claimed here: nothing of what is to be written of it can be there yet."""
        self._remember([run_id])

    def _send(self, rows: list[dict[str, Any]], journals: Mapping[str, str]) -> None:
        """`journals` names the run in whose journal the lines of each run or subflow stand."""
        run_ids = {row["flow_run_id"] for row in rows}
        new = run_ids - set(self._known)
        # One question for a journal: a run can have as many subflows as lines.
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
        times = [row["timestamp"] for row in rows if row["flow_run_id"] in run_ids]
        stored = set(self._stored(sorted(run_ids), min(times), max(times)))
        return [row for row in rows if row["flow_run_id"] not in run_ids or _key(row) not in stored]

    def _stored(self, run_ids: list[str], first: str, last: str) -> Iterator[_Key]:
        wanted = {"flow_run_id": {"any_": run_ids}, "timestamp": {"after_": first, "before_": last}}
        for number in range(_MOST_PAGES * len(run_ids)):
            asked = {"logs": wanted, "limit": _PAGE, "offset": number * _PAGE}
            page = self._transport.post("/logs/filter", asked)
            try:
                keys = [_key(row) for row in objects(page)]
            except json_values.NOT_THE_DIALECT as error:
                raise BackendUnavailable(f"cannot understand the log of {run_ids[0]}: {error!r:.200}") from error
            yield from keys
            if len(keys) < _PAGE:
                return

    def _remember(self, run_ids: Iterable[str]) -> None:
        with self._lock:
            self._known.update(dict.fromkeys(run_ids))
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)

    def _forget(self, run_ids: Iterable[str]) -> None:
        with self._lock:
            for run_id in run_ids:
                self._known.pop(run_id, None)


def _owner(line: LogLine) -> str:
    """The flow run that the server is to have the line under."""
    return line.subflow_run_id or line.flow_run_id


def _row(line: LogLine) -> dict[str, Any]:
    return {
        "flow_run_id": _owner(line),
        "task_run_id": line.task_run_id,
        "timestamp": line.at.isoformat(),
        "name": _text(RAW_LOGGER + line.stream if line.stream in _RAW_STREAMS else line.logger),
        "level": int(line.level),
        "message": _text(line.message)[:_MOST_CHARACTERS],
    }


def _text(text: str) -> str:
    """What the server can store: halves of characters make it fail, and so would every later try; NUL it takes out."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _key(row: Any) -> _Key:
    name, message = json_values.text(row["name"]), json_values.text(row["message"])
    run_id, at = json_values.text(row["flow_run_id"]), json_values.time_or_none(row["timestamp"])
    return (run_id, at, name, json_values.whole(row["level"]), message)


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        length = len(json.dumps(row))
        if batch and (size + length > _REQUEST_BYTES or len(batch) == _REQUEST_LINES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch
