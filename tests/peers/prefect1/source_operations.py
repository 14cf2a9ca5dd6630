"""The root fields of all GraphQL queries and mutations that are written in the source of a package.

Prefect writes most as nested dictionaries, whose first level is called "query" or "mutation…", and some as text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_TEXT = re.compile(r"\b(?:query|mutation)\b\s*(?:\([^)]*\))?\s*\{\s*(\w+)")
#: Calls whose first argument is a field.
_FIELDS = ("with_args", "GQLObject", "EnumValue")


def root_fields(source: Path) -> dict[str, set[str]]:
    """Return each root field with the files that ask for it; a name that is computed at run time is empty."""
    found: dict[str, set[str]] = {}
    for file in sorted(source.rglob("*.py")):
        if _is_for_prefect(file.relative_to(source)):
            for name in _named(ast.parse(file.read_text(encoding="utf-8"))):
                found.setdefault(name, set()).add(str(file.relative_to(source)))
    return found


def _is_for_prefect(file: Path) -> bool:
    """Whether a file talks to Prefect's server, and not to other services with GraphQL or in examples alone."""
    return file.parts[:2] == ("tasks", "prefect") or (
        file.parts[0] != "tasks" and file != Path("utilities", "graphql.py")
    )


def _named(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if re.match(r"(query|mutation)\b", _text(key)):
                    yield from (_text(field).partition("(")[0].strip() for field in _first_level(value))
        yield from _TEXT.findall(_text(node) if isinstance(node, (ast.Constant, ast.JoinedStr)) else "")


def _first_level(value: ast.expr) -> list[ast.expr | None]:
    if isinstance(value, ast.Dict):
        return list(value.keys)
    return list(value.elts) if isinstance(value, ast.Set) else [value]


def _text(node: ast.AST | None) -> str:
    """Return the beginning of a text, as far as it is known without running it; empty for other nodes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "{}" for part in node.values)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return _text(node.func.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FIELDS:
        return _text(node.args[0])
    return ""
