"""Text that no database of the dialect can hold: NUL, and halves of surrogate pairs, which JSON can hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphql import DocumentNode, StringValueNode, Visitor, visit

from flowherd_server.errors import Refused


def check_storable(where: str, value: Any) -> None:
    """Raise Refused if a text in `value`, a value of JSON, cannot be stored; the message says where it is."""
    if _is_storable(value):
        return
    for place, text in _texts(where, value):
        _check(place, text)


def check_literals(document: DocumentNode) -> None:
    """Raise Refused if a text of the document cannot be compared with what is stored."""
    visit(document, _Literals())


class _Literals(Visitor):
    def enter_string_value(self, node: StringValueNode, *_more: Any) -> None:
        _check("a text of the request", node.value)


def _is_storable(value: Any) -> bool:
    """Return whether all texts in a value can be stored. To find the place of one that cannot be takes much longer."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            if "\0" in found or (not found.isascii() and _half_pair(found)):
                return False
        elif isinstance(found, dict):
            waiting += found
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found
    return True


def _texts(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield all texts in a value of JSON, keys too, with the place of each."""
    # Not recursive, because JSON can be nested deeply.
    waiting = [(where, value)]
    while waiting:
        place, found = waiting.pop()
        if isinstance(found, str):
            yield place, found
        elif isinstance(found, dict):
            for key, inner in found.items():
                yield f"a key of {place}", str(key)
                waiting.append((f"{place}.{key}", inner))
        elif isinstance(found, list):
            waiting.extend((f"{place}[{number}]", inner) for number, inner in enumerate(found))


def _check(place: str, text: str) -> None:
    bad = "a NUL character" if "\0" in text else "" if text.isascii() else _half_pair(text)
    if bad:
        raise Refused(f"{place} contains {bad}, which cannot be stored; leave it out, or send it escaped")


def _half_pair(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"half of a surrogate pair (U+{ord(text[error.start]):04X})"
    return ""
