"""Texts folded to the width of the screen, and the colours and the weight of log lines."""

from __future__ import annotations

from flowherd.cli.tables.cells import width_of
from flowherd.cli.top.spans import Line, Span
from flowherd.web.terminal_text import terminal_text

_COLOURS = ("", "red", "green", "yellow", "blue", "magenta", "cyan", "")
_WEIGHTS = {"a1": "bold", "a2": "dim"}
_TAB = "    "


def coloured(message: str) -> list[Line]:
    """Return a message as lines of spans, as a terminal shows it: its colours stay, its other controls do not."""
    styled = terminal_text(message)
    spans, at = list[Span](), 0
    for begin, end, classes in styled.styles:
        spans += [Span(styled.text[at:begin]), Span(styled.text[begin:end], _style(classes))]
        at = end
    return _lines([*spans, Span(styled.text[at:])])


def _style(classes: str) -> str:
    """Return the style for the classes of terminal_text: weights, and a3 with the number of a colour."""
    words = [_WEIGHTS.get(name, "") or (_COLOURS[int(name[2])] if len(name) == 3 else "") for name in classes.split()]
    return " ".join(word for word in words if word)


def _lines(spans: list[Span]) -> list[Line]:
    lines: list[list[Span]] = [[]]
    for span in spans:
        first, *others = span.text.replace("\t", _TAB).split("\n")
        lines[-1].append(Span(first, span.style))
        lines += [[Span(text, span.style)] for text in others]
    return [tuple(span for span in one if span.text) for one in lines]


def wrapped(spans: Line, width: int) -> list[Line]:
    """Return a line as lines of at most `width` columns, broken after a blank if there is one in the latter half."""
    text = "".join(span.text for span in spans)
    if width_of(text) <= width:
        return [spans]
    lines = []
    for start, end in _breaks(text, max(1, width)):
        lines.append(_part(spans, start, end))
    return lines


def _breaks(text: str, width: int) -> list[tuple[int, int]]:
    found, start, used = [], 0, 0
    place = 0
    while place < len(text):
        wide = width_of(text[place])
        if used + wide > width and place > start:
            blank = text.rfind(" ", start + (place - start) // 2, place)
            end = blank + 1 if blank > start else place
            found.append((start, end))
            start, used = end, width_of(text[end:place])
            continue
        used += wide
        place += 1
    return [*found, (start, len(text))]


def _part(spans: Line, start: int, end: int) -> Line:
    kept, at = [], 0
    for span in spans:
        piece = span.text[max(0, start - at) : max(0, end - at)]
        if piece:
            kept.append(Span(piece, span.style))
        at += len(span.text)
    return tuple(kept)
