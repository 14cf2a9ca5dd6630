"""The type of a parameter, from the text of its annotation. Nothing is imported or evaluated."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from flowherd.parameter_types import MAX_CHOICES, Kind, is_short_scalar

#: Kind of what an annotation's last name stands for.
_KINDS = {
    "str": Kind.TEXT,
    "Path": Kind.TEXT,
    "PurePath": Kind.TEXT,
    "int": Kind.INTEGER,
    "float": Kind.NUMBER,
    "bool": Kind.BOOLEAN,
    "date": Kind.DATE,
    "datetime": Kind.TIME,
}
#: Longer annotations are not read.
_MAX_CHARS = 10_000
_NOTHING = ("None", "NoneType")


def type_of_annotation(annotation: str) -> tuple[Kind, Sequence[Any]]:
    """Return the kind and the choices of a parameter; Kind.ANY if the annotation names no type of a form's field.

    `X | None` and `Optional[X]` are X.
    """
    try:
        parsed = ast.parse(annotation, mode="eval").body if len(annotation) <= _MAX_CHARS else None
        return _type(parsed)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Kind.ANY, ()


def _type(node: ast.expr | None) -> tuple[Kind, Sequence[Any]]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):  # a forward reference
        return type_of_annotation(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([node.left, node.right])
    if isinstance(node, ast.Subscript):
        return _subscript(_last_name(node.value), node.slice)
    return _KINDS.get(_last_name(node), Kind.ANY), ()


def _subscript(name: str, inside: ast.expr) -> tuple[Kind, Sequence[Any]]:
    parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if name in ("Optional", "Union"):
        return _union(parts)
    if name == "Annotated":
        return _type(parts[0])
    if name == "Literal":
        choices = [ast.literal_eval(part) for part in parts]
        known = [choice for choice in choices if choice is not None]
        if known and len(known) <= MAX_CHOICES and all(map(is_short_scalar, known)):
            return Kind.CHOICE, known
    return Kind.ANY, ()


def _union(parts: Sequence[ast.expr]) -> tuple[Kind, Sequence[Any]]:
    found = [_type(part) for part in parts if not _is_none(part)]
    if len(found) == 1:
        return found[0]
    kinds = {kind for kind, _ in found}
    return (Kind.NUMBER if kinds == {Kind.INTEGER, Kind.NUMBER} else Kind.ANY), ()


def _is_none(node: ast.expr) -> bool:
    return (isinstance(node, ast.Constant) and node.value is None) or _last_name(node) in _NOTHING


def _last_name(node: ast.expr | None) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
