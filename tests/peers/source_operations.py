"""What a package's source can ask a GraphQL server for: the root fields of all queries and mutations written in it.

Prefect writes most as nested dictionaries, whose first level is called "query" or "mutation…", and some as text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_TEXT = re.compile(r"\b(?:query|mutation)\b\s*(?:\([^)]*\))?\s*\{\s*(\w+)")
#: Calls that stand for a field, which is their first argument.
_FIELDS = ("with_args", "GQLObject", "EnumValue")


def root_fields(source: Path) -> dict[str, set[str]]:
    """Each root field, with the files that ask for it. The name of one that the source does not tell is empty."""
    found: dict[str, set[str]] = {}
    for file in sorted(source.rglob("*.py")):
        if _speaks_with_prefect(file.relative_to(source)):
            for name in _named(ast.parse(file.read_text(encoding="utf-8"))):
                found.setdefault(name, set()).add(str(file.relative_to(source)))
    return found


def _speaks_with_prefect(file: Path) -> bool:
    """Not the tasks for other services that have GraphQL too, nor the examples in the module that writes it."""
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
    """The beginning of what is written there, as far as it is known without running it; nothing for all else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "{}" for part in node.values)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return _text(node.func.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FIELDS:
        return _text(node.args[0])
    return ""
