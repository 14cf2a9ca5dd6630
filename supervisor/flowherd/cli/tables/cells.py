"""The width of a text on a terminal, and cutting it to fewer columns."""

from __future__ import annotations

from unicodedata import category, east_asian_width

#: Marks a cut.
ELLIPSIS = "…"
#: Categories of characters that take no column of their own: combining marks, and joiners.
_NO_WIDTH = frozenset({"Mn", "Me", "Cf"})


def width_of(text: str) -> int:
    """Return the number of a terminal's columns that `text` takes: wide characters (UAX 11) take two."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if category(character) in _NO_WIDTH:
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def cut_end(text: str, width: int) -> str:
    """Return `text` in at most `width` columns; its end is cut, between two words if one begins in the latter half."""
    if width_of(text) <= width:
        return text
    kept = _beginning(text, width - 1)
    blank = len(kept) if text[len(kept)] == " " else kept.rfind(" ")
    if width_of(kept[: max(0, blank)]) * 2 >= width:
        kept = kept[:blank]
    return kept.rstrip() + ELLIPSIS


def cut_middle(text: str, width: int) -> str:
    """Return `text` in at most `width` columns; its middle is cut, two thirds of what stays are its beginning."""
    if width_of(text) <= width:
        return text
    head = _beginning(text, width - 1 - (width - 1) // 3)
    return head + ELLIPSIS + _ending(text, (width - 1) // 3)


def padded(text: str, width: int) -> str:
    """Return `text` with blanks after it, `width` columns wide."""
    return text + " " * (width - width_of(text))


def _beginning(text: str, width: int) -> str:
    if text.isascii():
        return text[: max(0, width)]
    used = 0
    for place, character in enumerate(text):
        used += _width(character)
        if used > width:
            return text[:place]
    return text


def _ending(text: str, width: int) -> str:
    used = 0
    for place in range(len(text) - 1, -1, -1):
        used += _width(text[place])
        if used > width:
            rest = text[place + 1 :]
            # A mark that combines with a character that was cut away would combine with the ellipsis.
            return rest.lstrip("".join(c for c in rest if _width(c) == 0))
    return text
