"""What the records of a journal say, as the agent and the embedded server read them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from uuid import UUID

from flowherd_runner.contract.journal import STREAM_LOG, STREAM_NAMES, STREAM_NOTICE


class Content(NamedTuple):
    """What one record says."""

    logger: str
    message: str
    task_run_id: str | None = None
    #: Flow run of the subflow that the record belongs to.
    flow_run_id: str | None = None
    info: dict[str, Any] | None = None


def record_content(stream: int, payload: bytes) -> Content:
    """Return what a record says; bytes that are not UTF-8 are shown as \\xNN, and so is NUL.

    PostgreSQL, in which other servers store lines, cannot hold NUL.
    """
    text = payload.decode("utf-8", "backslashreplace")
    if stream not in (STREAM_LOG, STREAM_NOTICE):
        return Content(STREAM_NAMES.get(stream, ""), _storable(text))
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    # Written by a runner of another release, or cut: show the text itself.
    if not isinstance(value, dict):
        return Content(STREAM_NAMES[stream], _storable(text))
    logger, message = str(value.get("logger") or STREAM_NAMES[stream]), str(value.get("message", ""))
    info = value.get("info") if isinstance(value.get("info"), dict) else None
    ids = _id(value.get("task_run_id")), _id(value.get("flow_run_id"))
    return Content(logger, _storable(message), *ids, _storable(info))


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\\x00")
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    return value


def _id(value: Any) -> str | None:
    """Return `value` if it is an id. A journal may hold anything, and a bad id of a task must not cost the line."""
    try:
        return value if isinstance(value, str) and str(UUID(value)) == value else None
    except ValueError:
        return None
