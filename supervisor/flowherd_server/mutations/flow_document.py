"""The JSON document as which a flow is registered: decompressing it, checking it and reading its parts. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowherd.flow_rules import RULES_KEY, read_rules
from flowherd_server.errors import Refused
from flowherd_server.runs.labels import check_labels

#: Maximum size of a document that was sent compressed, after decompression: what one that is not compressed may have.
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
#: Maximum number of values in such a document; each takes about a hundred bytes of memory, however short its text is.
MAX_DOCUMENT_VALUES = 1_000_000
#: Storage of flows whose ends the agent reports; those of Prefect have engines of their own, which try tasks again.
_PLAIN_STORAGE = ("Command", "Python")
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
#: One document at a time, so that many requests need no more memory than one.
_unpacking = threading.Lock()


@dataclass(frozen=True)
class FlowDocument:
    """The parts of a flow that the server uses; `whole` is stored and returned unchanged."""

    whole: Mapping[str, Any]
    name: str
    parameters: Sequence[Mapping[str, Any]]
    tasks: Sequence[Mapping[str, Any]]
    edges: Sequence[Mapping[str, Any]]
    storage: Mapping[str, Any] | None
    run_config: Mapping[str, Any] | None
    environment: Mapping[str, Any] | None
    schedule: Mapping[str, Any] | None
    #: The flow's rules (flowherd/flow_rules.py); None if it has none.
    rules: Mapping[str, Any] | None


def read_document(value: Any) -> FlowDocument:
    """Read a flow. Raises Refused, naming the key, if something is not as it must be."""
    whole = _mapping("serialized_flow", value)
    name = whole.get("name")
    if not isinstance(name, str) or not name.strip():
        raise Refused("serialized_flow.name must be a string that is not empty")
    optional = {
        key: None if whole.get(key) is None else _mapping(f"serialized_flow.{key}", whole[key])
        for key in ("storage", "run_config", "environment", "schedule")
    }
    for key in ("run_config", "environment"):
        check_labels(f"serialized_flow.{key}.labels", (optional[key] or {}).get("labels"))
    return FlowDocument(
        whole=whole,
        name=name,
        parameters=_named("serialized_flow.parameters", whole.get("parameters"), "name"),
        tasks=read_tasks("serialized_flow.tasks", whole.get("tasks")),
        edges=read_edges("serialized_flow.edges", whole.get("edges")),
        rules=_rules(whole.get(RULES_KEY), optional["storage"]),
        **optional,
    )


def _rules(value: Any, storage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        rules = read_rules(value)
    except ValueError as error:
        raise Refused(f"serialized_flow.{RULES_KEY}: {error}") from None
    if rules.retries and (storage or {}).get("type") not in _PLAIN_STORAGE:
        raise Refused(f"serialized_flow.{RULES_KEY}.retries: only commands and plain Python can be tried again")
    return rules.as_json()


def read_tasks(what: str, value: Any) -> list[dict[str, Any]]:
    """Read a list of tasks, or null for none. Raises Refused if a task has no slug."""
    return _named(what, value, "slug")


def read_edges(what: str, value: Any) -> list[dict[str, Any]]:
    """Read a list of edges, or null for none. Raises Refused if it is something else."""
    return _mappings(what, value)


def decompress(text: str) -> Any:
    """Return the JSON value in base64(gzip(JSON)). Raises Refused if it is malformed or too large."""
    try:
        packed = base64.b64decode(text, validate=True)
        with _unpacking:
            unpacker = zlib.decompressobj(_GZIP_WINDOW)
            data = unpacker.decompress(packed, MAX_DOCUMENT_BYTES)
            if unpacker.unconsumed_tail:
                raise Refused(f"serialized_flow is larger than {MAX_DOCUMENT_BYTES} bytes")
            # Also counts what is within texts, so no more values than this.
            if sum(map(data.count, (b",", b"[", b"{"))) > MAX_DOCUMENT_VALUES:
                raise Refused(f"serialized_flow has more than {MAX_DOCUMENT_VALUES} values")
            return json.loads(data)
    except (binascii.Error, zlib.error, ValueError, RecursionError) as error:
        raise Refused(f"serialized_flow is not base64(gzip(JSON)): {error}") from error


def optional_mapping(what: str, value: Any) -> dict[str, Any] | None:
    """Return `value` if it is a JSON object or None. Raises Refused, naming it as `what`, otherwise."""
    return None if value is None else _mapping(what, value)


def slug_of(edge: Mapping[str, Any], end: str) -> str | None:
    """Return the slug of the task at one end of an edge, or None if there is no string."""
    task = edge.get(end)
    slug = task.get("slug") if isinstance(task, dict) else None
    return slug if isinstance(slug, str) else None


def _mapping(what: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"{what} must be a JSON object")
    return value


def _mappings(what: str, values: Any) -> list[dict[str, Any]]:
    if values is None:
        return []
    if not isinstance(values, list):
        raise Refused(f"{what} must be a list")
    return [_mapping(f"{what}[{index}]", value) for index, value in enumerate(values)]


def _named(what: str, values: Any, name: str) -> list[dict[str, Any]]:
    found = _mappings(what, values)
    for index, value in enumerate(found):
        if not isinstance(value.get(name), str):
            raise Refused(f"{what}[{index}].{name} must be a string")
    return found
