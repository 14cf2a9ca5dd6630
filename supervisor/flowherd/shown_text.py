"""Text of others as a terminal, a log file or a page shows it: nothing in it can control what shows it.

Names, labels, messages and parameters come from anybody who can reach the server. Shown as they are, escape sequences
move the cursor or change the title, C1 bytes do the same in one character, line breaks forge lines of a log, and
directional controls (Unicode Standard Annex 9) make a text read as another. All of them are shown as Python writes
them: `\\x1b`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

#: Categories that are escaped: controls, formats, halves of surrogate pairs, separators of lines and paragraphs.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Formats that stay: words of Persian and Indic scripts, and emoji, are joined by them.
_JOINERS = "\u200c\u200d"
#: Select Graphic Rendition (ECMA-48, 8.3.117): colours and weight, which end with the next one.
_COLOUR = re.compile(r"(\x1b\[[0-9;:]*m)")
_RESET = "\x1b[0m"


def one_line(text: str) -> str:
    """Return `text` as one line, with line breaks, tabs and all other controls escaped."""
    return _escaped(text, "")


def lines(text: str) -> str:
    """Return `text` with all controls escaped except tabs and line breaks."""
    return _escaped(text, "\t\n")


def with_colours(text: str) -> str:
    """Return `text` as `lines` does, but with its colours (SGR), which end with it."""
    parts = _COLOUR.split(text)
    if len(parts) == 1:
        return lines(text)
    return "".join(part if number % 2 else lines(part) for number, part in enumerate(parts)) + _RESET


def json_text(value: Any, default: Callable[[Any], Any], indent: int | None = None) -> str:
    """Return `value` as JSON that can be shown; what would be escaped elsewhere is escaped as JSON does it.

    `default` is that of json.dumps, as is `indent`. Raises TypeError for what it cannot convert.
    """
    text = json.dumps(value, default=default, ensure_ascii=False, indent=indent)
    # Line by line, because those of an indented text are printable as a rule.
    return "\n".join(line if line.isprintable() else _escaped_json(line) for line in text.split("\n"))


def _escaped_json(line: str) -> str:
    return "".join(json.dumps(c)[1:-1] if _is_escaped(c) else c for c in line)


def storable(text: str) -> str:
    """Return `text` with NUL and halves of surrogate pairs escaped, which servers refuse or drop."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _escaped(text: str, kept: str) -> str:
    if text.isprintable():  # nearly always, and much faster
        return text
    return "".join(_escape(c) if c not in kept and _is_escaped(c) else c for c in text)


def _is_escaped(character: str) -> bool:
    return unicodedata.category(character) in _ESCAPED and character not in _JOINERS


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
