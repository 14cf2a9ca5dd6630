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
        return [_dumped(body)]
    return list(_pieces(body, data, turn))


def _is_short(value: Any) -> bool:
    return not isinstance(value, list) or len(value) <= PIECE_ROWS


def _pieces(body: Mapping[str, Any], data: Mapping[str, Any], turn: Turn) -> Iterator[bytes]:
    others = {key: value for key, value in body.items() if key != "data"}
    yield _dumped(others)[:-1] + (b"," if others else b"") + b'"data":{'
    for number, (key, value) in enumerate(data.items()):
        yield (b"," if number else b"") + _dumped(key) + b":"
        if _is_short(value):
            yield _dumped(value)
        else:
            yield from _list_pieces(value, turn)
    yield b"}}"


def _list_pieces(rows: Sequence[Any], turn: Turn) -> Iterator[bytes]:
    for begin in range(0, len(rows), PIECE_ROWS):
        turn.next_piece()
        yield (b"," if begin else b"[") + _dumped(rows[begin : begin + PIECE_ROWS])[1:-1]
    yield b"]"


def _dumped(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which a client has sent
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
