"""The colours and the weight of a log line, of which a terminal's other controls are left out."""

from __future__ import annotations

import re

from flowherd.cli.tables.cells import width_of
from flowherd.cli.top.spans import Line, Span, clean

#: Select Graphic Rendition (ECMA-48, 8.3.117), and every other control sequence, also those of operating systems.
_SGR = re.compile(r"\x1b\[([0-9;:]*)m")
_OTHER = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-ln-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[()][0-9A-B]|[=>78cDEHMZ])")
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_TAB = "    "


def coloured(text: str) -> list[Line]:
    """Return a message as lines of spans. What overwrote a line (a carriage return) stands in its place."""
    return [_line(one) for one in _OTHER.sub("", text).split("\n")]


def _line(text: str) -> Line:
    overwritten = [part for part in text.rstrip("\r").split("\r") if part]
    text = (overwritten[-1] if overwritten else "").replace("\t", _TAB)
    spans: list[Span] = []
    bold, colour, start = False, "", 0
    for found in _SGR.finditer(text):
        spans.append(Span(clean(text[start : found.start()]), _name(bold, colour)))
        start = found.end()
        bold, colour = _after(found[1], bold, colour)
    spans.append(Span(clean(text[start:]), _name(bold, colour)))
    return tuple(span for span in spans if span.text)


def _name(bold: bool, colour: str) -> str:
    return f"bold {colour}".rstrip() if bold else colour


def _after(codes: str, bold: bool, colour: str) -> tuple[bool, str]:
    numbers = [int(code) if code.isdigit() else 0 for code in re.split("[;:]", codes)]
    while numbers:
        code = numbers.pop(0)
        if code == 0:
            bold, colour = False, ""
        elif code in (1, 22):
            bold = code == 1
        elif 30 <= code <= 37:
            colour = _COLOURS[code - 30]
        elif 90 <= code <= 97:
            colour = f"bright_{_COLOURS[code - 90]}"
        elif code == 39:
            colour = ""
        elif code in (38, 48):  # of 256 or of 16 million colours: not the terminal's own
            del numbers[: 2 if numbers[:1] == [5] else 4]
    return bold, colour


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
