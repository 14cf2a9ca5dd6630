"""What a terminal would show of a line of a log, as text with styles: colours and weight, nothing else.

A carriage return overwrites the line from its begin, a backspace the character before, and "erase in line" erases
(ECMA-48, 8.3.41). Colours and weight (SGR, 8.3.117) become names of classes. Every other sequence is dropped, and
every other control is shown escaped, so no line can change more of a page than its own letters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from flowherd.shown_text import lines as shown_lines

#: A control sequence (CSI), an operating system command or another string (OSC, DCS, SOS, PM, APC) up to its end, and
#: any other escape sequence. An unfinished one ends with the line.
_SEQUENCE = (
    r"(?:\x1b\[|\x9b)(?P<parameters>[0-?]*)[ -/]*(?P<final>[@-~]|$)"
    r"|(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$|(?=\x1b))"
    r"|\x1b[ -/]*(?:[0-~]|$)"
)
#: Select Graphic Rendition: colours and weight.
_SGR = re.compile(r"\x1b\[([0-9;:]*)m")
#: Something that only a terminal understands.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
#: Pieces of a line: sequences, the controls that move within a line, and the text between.
_PIECE = re.compile(rf"(?P<text>[^\x1b\r\b\x90\x98\x9b\x9d-\x9f]+)|(?P<move>[\r\b])|{_SEQUENCE}")
#: {SGR number: the classes that it adds}.
_WEIGHTS = {1: "a1", 2: "a2", 3: "a3", 4: "a4"}
#: {SGR number: the weights that it ends}.
_ENDS = {22: ("a1", "a2"), 23: ("a3",), 24: ("a4",)}
#: Columns beyond which a line is no longer laid out by cursor, only appended to.
_MAX_COLUMNS = 20_000


@dataclass(frozen=True)
class StyledText:
    """Text, and where in it which classes are."""

    text: str
    #: (begin, end, classes), in order, without gaps of their own: text between them has no style.
    styles: tuple[tuple[int, int, str], ...] = ()


def terminal_text(message: str) -> StyledText:
    """Return what a terminal shows of a message, which may have several lines; each is laid out by itself."""
    if not _CONTROL.search(message):
        return StyledText(shown_lines(message))
    parts, styles, begin = [], [], 0
    for number, line in enumerate(message.split("\n")):
        begin += bool(number)
        shown = _line(line) if _CONTROL.search(line) else StyledText(shown_lines(line))
        styles += [(begin + first, begin + end, classes) for first, end, classes in shown.styles]
        parts.append(shown.text)
        begin += len(shown.text)
    return StyledText("\n".join(parts), tuple(styles))


def plain_text(message: str) -> str:
    """Return the text of `terminal_text`."""
    # Most lines with controls have colours alone.
    text = _SGR.sub("", message)
    return terminal_text(message).text if _CONTROL.search(text) else shown_lines(text)


def _line(line: str) -> StyledText:
    parts = _SGR.split(line)
    screen = _Line()
    if not any(map(_CONTROL.search, parts[::2])):
        return _coloured(parts, screen)
    for piece in _PIECE.finditer(line):
        if piece["text"] is not None:
            screen.write(piece["text"])
        elif piece["move"] == "\r":
            screen.column = 0
        elif piece["move"] == "\b":
            screen.column = max(0, screen.column - 1)
        elif piece["final"] == "m":
            screen.style(piece["parameters"])
        elif piece["final"] == "K":
            screen.erase(piece["parameters"])
    return screen.shown()


def _coloured(parts: Sequence[str], screen: _Line) -> StyledText:
    """Return a line of text and, between, parameters of SGR sequences: what `screen` would show, only sooner."""
    texts, styles, begin = list[str](), list[tuple[int, int, str]](), 0
    for number, part in enumerate(parts):
        if number % 2:
            screen.style(part)
        elif part:
            text = shown_lines(part)
            if screen.classes:
                styles.append((begin, begin + len(text), screen.classes))
            texts.append(text)
            begin += len(text)
    return StyledText("".join(texts), tuple(styles))


class _Line:
    """One line of a terminal: its characters, each with its classes, and the cursor."""

    def __init__(self) -> None:
        self.column = 0
        self._characters: list[str] = []
        self._written: list[str] = []
        self._colour = ""
        self._weights: set[str] = set()
        #: Classes of what is written now.
        self.classes = ""

    def write(self, text: str) -> None:
        """Write at the cursor, over what is there."""
        column = self.column
        if column > len(self._characters):
            gap = column - len(self._characters)
            self._characters += " " * gap
            self._written += [""] * gap
        self._characters[column : column + len(text)] = text
        self._written[column : column + len(text)] = [self.classes] * len(text)
        self.column = min(column + len(text), max(_MAX_COLUMNS, len(self._characters)))

    def erase(self, parameters: str) -> None:
        """Erase from the cursor to the end, from the begin to the cursor, or all."""
        if parameters in ("", "0"):
            del self._characters[self.column :], self._written[self.column :]
        elif parameters == "1":
            end = min(self.column + 1, len(self._characters))
            self._characters[:end], self._written[:end] = " " * end, [""] * end
        elif parameters == "2":
            self._characters.clear()
            self._written.clear()

    def style(self, parameters: str) -> None:
        """Carry out Select Graphic Rendition. Background colours are left out: a page has its own."""
        numbers = [int(text) if text.isdecimal() and len(text) < 5 else 0 for text in re.split("[;:]", parameters)]
        while numbers:
            self._apply(numbers.pop(0), numbers)
        self.classes = " ".join([*sorted(self._weights), *([self._colour] if self._colour else [])])

    def _apply(self, number: int, following: list[int]) -> None:
        if number == 0:
            self._colour = ""
            self._weights.clear()
        elif number in _WEIGHTS:
            self._weights.add(_WEIGHTS[number])
        elif number in _ENDS:
            self._weights.difference_update(_ENDS[number])
        elif number in (38, 48):
            colour = _chosen_colour(following)
            self._colour = colour if number == 38 else self._colour
        elif 30 <= number <= 39 or 90 <= number <= 97:
            self._colour = _colour_class(number % 10, bright=number >= 90) if number != 39 else ""

    def shown(self) -> StyledText:
        """Return what stands in the line, with its controls escaped."""
        parts, styles, begin, first = list[str](), list[tuple[int, int, str]](), 0, 0
        classes = self._written
        while first < len(classes):
            end = first
            while end < len(classes) and classes[end] == classes[first]:
                end += 1
            text = shown_lines("".join(self._characters[first:end]))
            if classes[first]:
                styles.append((begin, begin + len(text), classes[first]))
            parts.append(text)
            begin += len(text)
            first = end
        return StyledText("".join(parts), tuple(styles))


def _colour_class(number: int, *, bright: bool) -> str:
    """Return the class of one of the eight colours; black and white are the page's own ink, bright black is muted."""
    if number in (0, 7):
        return "a2" if bright and number == 0 else ""
    return f"a3{number}"


def _chosen_colour(following: list[int]) -> str:
    """Take the rest of "38;5;N" or "38;2;R;G;B" away. Of the 256 colours the first 16 have a class, others none."""
    kind = following.pop(0) if following else 0
    if kind == 5:
        number = following.pop(0) if following else 7
        return _colour_class(number % 8, bright=number >= 8) if number < 16 else ""
    if kind == 2:
        del following[:3]
    return ""


def html_of(styled: StyledText, escape: Callable[[str], str], found: re.Pattern[str] | None = None) -> str:
    """Return the text as HTML: spans with classes, and what `found` matches in <mark>."""
    text = styled.text
    marks = [match.span() for match in found.finditer(text) if match.end() > match.start()] if found else []
    if not styled.styles and not marks:
        return escape(text)
    cuts = {0, len(text), *(at for mark in marks for at in mark)}
    cuts.update(at for begin, end, _ in styled.styles for at in (begin, end))
    places = sorted(cuts)
    parts, style, mark = [], iter(styled.styles), iter(marks)
    of_style, of_mark = next(style, None), next(mark, None)
    for begin, end in pairwise(places):
        while of_style and of_style[1] <= begin:
            of_style = next(style, None)
        while of_mark and of_mark[1] <= begin:
            of_mark = next(mark, None)
        piece = escape(text[begin:end])
        if of_style and of_style[0] <= begin:
            piece = f'<span class="{of_style[2]}">{piece}</span>'
        if of_mark and of_mark[0] <= begin:
            piece = f"<mark>{piece}</mark>"
        parts.append(piece)
    return "".join(parts)
