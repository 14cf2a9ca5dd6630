"""What a source file imports, read from its text without a syntax tree, which takes forty times as long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

#: An import statement as the formatter writes it: on a line of its own, or with names in parentheses.
_STATEMENT = re.compile(
    r"^[ \t]*(?:from ([\w.]+) import (?:\(([^)]*)\)|([^#\n]+))|import ([\w., ]+?)[ \t]*(?:#.*)?$)", re.MULTILINE
)
_COMMENT = re.compile(r"#.*")
_DOTTED = re.compile(r"[\w.]+")


@cache
def imported(path: Path) -> tuple[str, ...]:
    """The dotted names that a file imports, anywhere in it; `from a import b` counts as a and as a.b.

    An import within a text counts, too. tests/components/test_imports.py compares all with the syntax trees.
    """
    return tuple(_imported(path.read_text(encoding="utf-8")))


def _imported(text: str) -> Iterator[str]:
    for module, enclosed, on_line, plain in _STATEMENT.findall(text):
        if plain:
            yield from _names(plain)
        else:
            yield module
            yield from (f"{module}.{name}" for name in _names(_COMMENT.sub("", enclosed) or on_line))


def _names(names: str) -> Iterator[str]:
    """Leave out what follows `as`, and a comma after the last name."""
    for name in names.split(","):
        if found := _DOTTED.match(name.strip()):
            yield found[0]
