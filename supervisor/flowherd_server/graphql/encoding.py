"""Writes an answer as JSON, in pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowherd_server.graphql.turns import PIECE_ROWS, Turn


def encoded(body: Mapping[str, Any], turn: Turn) -> list[bytes]:
    """Return the JSON text of a GraphQL answer, cut where a list of rows is long."""
    data = body.get("data")
    if not isinstance(data, dict) or all(_is_short(value) for value in data.values()):
        return [json_bytes(body)]
    return list(_pieces(body, data, turn))


def _is_short(value: Any) -> bool:
    return not isinstance(value, list) or len(value) <= PIECE_ROWS


def _pieces(body: Mapping[str, Any], data: Mapping[str, Any], turn: Turn) -> Iterator[bytes]:
    others = {key: value for key, value in body.items() if key != "data"}
    yield json_bytes(others)[:-1] + (b"," if others else b"") + b'"data":{'
    for number, (key, value) in enumerate(data.items()):
        yield (b"," if number else b"") + json_bytes(key) + b":"
        if _is_short(value):
            yield json_bytes(value)
        else:
            yield from _list_pieces(value, turn)
    yield b"}}"


def _list_pieces(rows: Sequence[Any], turn: Turn) -> Iterator[bytes]:
    for begin in range(0, len(rows), PIECE_ROWS):
        turn.next_piece()
        yield (b"," if begin else b"[") + json_bytes(rows[begin : begin + PIECE_ROWS])[1:-1]
    yield b"]"


def json_bytes(value: Any) -> bytes:
    """Return the JSON text of a value; halves of surrogate pairs, which have no bytes of their own, are escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
