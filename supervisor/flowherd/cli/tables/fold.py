"""Text in lines of a terminal's width, broken between words, and a screen's worth of such lines."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence

from flowherd.cli.tables.cells import cut_end, width_of
from flowherd.cli.tables.styles import styled, uses_colours
from flowherd.shown_text import one_line

#: Lines of a screen that are not for a command's output: the command line before it, and the prompt after it.
_OTHERS = 2


def fold(text: str, width: int, most: int | None = None, label: str = "") -> list[str]:
    """Return `text` as lines of at most `width` columns, at most `most` of them; `label` stands before the first.

    The further lines are indented by its width. Only a word that is wider than a line is broken. The last line ends
    with an ellipsis if something was left out.
    """
    room = width - width_of(label)
    lines: list[str] = []
    line = ""
    for word in _pieces(one_line(text).split(" "), room):
        if line and width_of(line) + 1 + width_of(word) > room:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    lines.append(line)
    if most is not None and len(lines) > most:
        lines = [*lines[: most - 1], cut_end(f"{lines[most - 1]} {lines[most]}", room)]
    return [(" " * width_of(label) if number else label) + line for number, line in enumerate(lines)]


def _pieces(words: Iterable[str], width: int) -> Iterable[str]:
    """Yield the words; those that are wider than a line in pieces that are not."""
    for word in words:
        rest = word
        while width_of(rest) > width:
            piece = cut_end(rest, width + 1)[:-1]
            yield piece
            rest = rest[len(piece) :]
        yield rest


class Screen:
    """Collects lines for a terminal, and counts how many of it are left."""

    def __init__(self, width: int | None = None, height: int | None = None) -> None:
        size = shutil.get_terminal_size()
        self.width = width or size.columns
        self.height = (height or size.lines) - _OTHERS
        #: Whether something was left out.
        self.is_cut = False
        self._lines: list[tuple[str, str]] = []

    @property
    def left(self) -> int:
        """Number of lines that still fit."""
        return self.height - len(self._lines)

    def add(self, text: str, *, style: str = "", most: int | None = None, label: str = "") -> None:
        """Add a text, folded."""
        lines = fold(text, self.width, most, label)
        self.is_cut = self.is_cut or (most is not None and len(fold(text, self.width, None, label)) > most)
        self._lines += [(line, style) for line in lines]

    def add_line(self, text: str, *, style: str = "") -> None:
        """Add a text as one line, cut at its end."""
        line = cut_end(one_line(text), self.width)
        self.is_cut = self.is_cut or line != one_line(text)
        self._lines.append((line, style))

    def lines(self) -> Sequence[str]:
        """Return the lines, in colours if standard output has them."""
        coloured = uses_colours()
        return [styled(line, style if coloured else "") for line, style in self._lines]
