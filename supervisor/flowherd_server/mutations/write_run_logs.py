"""write_run_logs: storing log lines.

The only operation with bulk data, so its list is not typed in GraphQL but checked here, and stored by few statements
(log_lines.py).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import GraphQLError, GraphQLNonNull
from graphql.type import GraphQLBoolean

from flowherd_server.call import Call
from flowherd_server.errors import Refused
from flowherd_server.graphql.operations import Operation
from flowherd_server.graphql.scalars import JSON_INPUT, parse_uuid
from flowherd_server.mutations.texts_so_far import TextSoFar, delete_finished, replace_texts
from flowherd_server.store.log_lines import NewLine, store_lines
from flowherd_server.store.microseconds import parse_time
from flowherd_server.store.row_lookup import numbers_of
from flowherd_server.store.tables import FLOW_RUN

_FIELDS = frozenset(
    {"flow_run_id", "task_run_id", "timestamp", "name", "level", "message", "info", "line_id", "so_far"}
)


@dataclass
class LogBatch:
    """The lines of one call, and the ids of runs that they refer to."""

    #: Finished lines; those without a time get that of the call.
    lines: list[NewLine] = field(default_factory=list)
    #: Text so far, in the order in which it was written.
    so_far: list[TextSoFar] = field(default_factory=list)
    #: Latest time of a finished line by run id and stream.
    finished: dict[tuple[str, str], int] = field(default_factory=dict)
    #: {id as it was sent: id as it is stored}.
    flow_runs: dict[str, str] = field(default_factory=dict)
    task_runs: dict[str, str] = field(default_factory=dict)


def read_logs(entries: Any) -> LogBatch:
    """Read the lines of one request. Raises Refused."""
    if isinstance(entries, dict):  # when a run fails, Prefect sends one bare object
        entries = [entries]
    if not isinstance(entries, list):
        raise Refused("logs must be a list of objects")
    batch = LogBatch()
    for index, entry in enumerate(entries):
        try:
            _add(_line(entry, batch), entry, batch)
        except (KeyError, TypeError, ValueError, GraphQLError) as error:
            raise Refused(f"logs[{index}]: {_reason(error)}") from None
    return batch


def _reason(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)


def _line(entry: Any, batch: LogBatch) -> NewLine:
    if not isinstance(entry, dict):
        raise TypeError("must be an object")
    if not entry.keys() <= _FIELDS:
        raise ValueError(f"unknown fields: {', '.join(sorted(entry.keys() - _FIELDS))}")
    get = entry.get
    timestamp, info, task_run_id = get("timestamp"), get("info"), get("task_run_id")
    stream = info.get("stream") if isinstance(info, dict) else None
    return NewLine(
        _known(entry["flow_run_id"], batch.flow_runs),
        None if task_run_id is None else _known(task_run_id, batch.task_runs),
        None if timestamp is None else _time(timestamp),
        _text("name", get("name"), None),
        _level(get("level")),
        _text("message", get("message"), "") or "",
        None if info is None else json.dumps(info, separators=(",", ":")),
        stream if isinstance(stream, str) else None,
        _text("line_id", get("line_id"), None),
    )


def _add(line: NewLine, entry: Mapping[str, Any], batch: LogBatch) -> None:
    """Add a line to the batch: to the log, or as text so far, which ends with the next line of its stream."""
    run_id, stream, timestamp = line.flow_run_id, line.stream, line.timestamp
    if not entry.get("so_far"):
        batch.lines.append(line)
        if stream is not None and timestamp is not None:
            key = (run_id, stream)
            batch.finished[key] = max(timestamp, batch.finished.get(key, timestamp))
        return
    if stream is None or timestamp is None:
        raise ValueError("text so far needs info.stream and timestamp")
    batch.so_far.append(TextSoFar(run_id, stream, timestamp, line.name, line.level, line.message))


def _known(value: Any, seen: dict[str, str]) -> str:
    found = seen.get(value)
    if found is None:
        found = seen[value] = parse_uuid(value)
    return found


def _time(value: Any) -> int:
    if not isinstance(value, str):
        raise TypeError(f"timestamp must be an ISO 8601 string, not {value!r}")
    return parse_time(value)


def _text(name: str, value: Any, default: str | None) -> str | None:
    if value is None:
        return default
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON allows but a database cannot store
        return value.encode(errors="replace").decode()
    return value


def _level(value: Any) -> str:
    """Return the level's name. Unknown names are kept, because a batch must not be lost for one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return logging.getLevelName(value)
    return _text("level", value, None) or "INFO"


def write_logs(call: Call, batch: LogBatch) -> Mapping[str, Any]:
    """Store the lines of one request. Raises Refused if one of their runs does not exist."""
    numbers_of(call.connection, FLOW_RUN, {text.flow_run_id for text in batch.so_far})
    store_lines(call.connection, batch.lines, call.now)
    replace_texts(call.connection, batch.so_far)
    delete_finished(call.connection, batch.finished)
    call.effects.logged |= {*batch.flow_runs.values()}
    call.effects.lines += len(batch.lines)
    return {"success": True}


OPERATIONS = (
    Operation(
        name="write_run_logs",
        arguments={"logs": GraphQLNonNull(JSON_INPUT)},
        answer={"success": GraphQLBoolean},
        handle=write_logs,
        prepare=lambda given: read_logs(given["logs"]),
        any_text=True,
    ),
)
