"""The quick reading of imports, by which the unit tests hold the layers, against Python's own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.imports import imported
from tests.unit.test_architecture import CHILD, PARENT, SERVER, modules


def test_no_import_of_any_module_is_overlooked_and_none_is_relative() -> None:
    paths = [path for root in (PARENT, SERVER, CHILD) for path in modules(root)]
    assert {str(path): missing for path in paths if (missing := set(parsed(path)) - set(imported(path)))} == {}


def parsed(path: Path) -> Iterator[str]:
    """Yield what a file imports according to its syntax tree."""
    for node in statements(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def statements(path: Path) -> Iterator[ast.AST]:
    """Yield all statements of a file, nested ones too; expressions, most of a tree, are passed over."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        yield node
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            below = getattr(node, name, ())
            todo += below if isinstance(below, list) else ()
