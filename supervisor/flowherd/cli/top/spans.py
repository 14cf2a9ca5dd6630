"""Lines of styled text: pieces, cutting, bars, sparklines, sizes.

Texts of others pass through `clean`, so that nothing in them controls the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flowherd.cli.tables.cells import cut_end, cut_middle, padded, width_of
from flowherd.shown_text import one_line

#: Eighths of a line's height.
_SPARKS = "▁▂▃▄▅▆▇█"


class Span(NamedTuple):
    """A piece of a line. `style` is one of canvas.STYLES."""

    text: str
    style: str = ""


#: A line, of pieces.
Line = tuple[Span, ...]


def line(*parts: Span | str) -> Line:
    """Return a line of these parts; empty ones are left out."""
    spans = (Span(part) if isinstance(part, str) else part for part in parts)
    return tuple(span for span in spans if span.text)


def clean(text: str) -> str:
    """Return a text of others as one line without controls."""
    return one_line(text)


def line_width(spans: Iterable[Span]) -> int:
    """Return the number of columns that a line takes."""
    return sum(width_of(span.text) for span in spans)


def plain(spans: Iterable[Span]) -> str:
    """Return the text of a line."""
    return "".join(span.text for span in spans)


def fitted(spans: Line, width: int) -> Line:
    """Return a line in at most `width` columns; its end is cut."""
    left, kept = width, []
    for span in spans:
        used = width_of(span.text)
        if used > left:
            if left > 0:
                kept.append(Span(cut_end(span.text, left), span.style))
            break
        kept.append(span)
        left -= used
    return tuple(kept)


def beside(left: Line, right: Line, width: int) -> Line:
    """Return a line with `left` at its beginning and `right` at its end; the left one is cut where both do not fit."""
    right = fitted(right, width)
    head = fitted(left, max(0, width - line_width(right) - 1))
    gap = width - line_width(head) - line_width(right)
    return line(*head, " " * gap, *right)


def at_left(text: str, width: int, *, middle: bool = False) -> str:
    """Return a cell with its text at the left, exactly `width` columns wide."""
    return padded((cut_middle if middle else cut_end)(text, width), width)


def at_right(text: str, width: int) -> str:
    """Return a cell with its text at the right, exactly `width` columns wide."""
    cut = cut_end(text, width)
    return " " * (width - width_of(cut)) + cut


def restyled(spans: Line, style: str, width: int) -> Line:
    """Return a line in one style over the whole width."""
    return (Span(padded(plain(fitted(spans, width)), width), style),)


def bar(share: float, width: int) -> str:
    """Return a bar of `width` columns that shows a share between 0 and 1."""
    filled = max(0, min(width, round(share * width)))
    if share > 0 and width:
        filled = max(1, filled)
    return "━" * filled + "─" * (width - filled)


def sparkline(values: Sequence[float], width: int, most: float | None = None) -> str:
    """Return the last `width` values as a line of blocks; the greatest, or `most`, is the highest block."""
    shown = values[-width:]
    top = most if most is not None else max(shown, default=0.0)
    if top <= 0:
        return _SPARKS[0] * len(shown)
    steps = len(_SPARKS) - 1
    return "".join(_SPARKS[max(0, min(steps, round(value / top * steps)))] for value in shown)


def size(count: float) -> str:
    """Return a number of bytes in at most five columns: 92M, 1.4G, 212G."""
    mebibytes = count / (1 << 20)
    if mebibytes < 1:
        return f"{count / 1024:.0f}K"
    if mebibytes < 1000:
        return f"{mebibytes:.0f}M"
    unit, count = "G", mebibytes / 1024
    if count >= 1000:
        unit, count = "T", count / 1024
    return f"{count:.1f}{unit}" if count < 99.95 else f"{count:.0f}{unit}"


def coarse_span(seconds: float) -> str:
    """Return about how long something takes, in at most five columns: 8s, 48s, 2m, 38m, 2h40m, 41d."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds}s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes:02d}m" if minutes else f"{hours}h"
    return f"{hours // 24}d"
