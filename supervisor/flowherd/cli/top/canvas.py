"""Brings lines to the terminal: only what has changed is drawn again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from rich.errors import StyleSyntaxError
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from flowherd.cli.tables.cells import padded, width_of
from flowherd.cli.top.spans import Line, line_width, plain

#: What the styles of spans are, in the terminal's own sixteen colours. Others are those of a log: rich's names.
STYLES = {
    "": "none",
    "bold": "bold",
    "dim": "dim",
    "ok": "green",
    "bad": "bold red",
    "warn": "yellow",
    "run": "cyan",
    "current": "reverse",
    "found": "reverse",
}
#: The same without colours (NO_COLOR): weight alone.
_WITHOUT_COLOURS = {
    **dict.fromkeys(STYLES, "none"),
    **dict.fromkeys(("bold", "bad", "warn", "current", "found"), "bold"),
}


@lru_cache(maxsize=256)
def _style(name: str, coloured: bool) -> Style:
    known = STYLES if coloured else _WITHOUT_COLOURS
    if name in known:
        return Style.parse(known[name])
    if not coloured:
        return Style(bold="bold" in name)
    try:
        return Style.parse(name)
    except StyleSyntaxError:
        return Style.null()


class Canvas(Widget, can_focus=True):
    """A screen of lines."""

    DEFAULT_CSS = """
    Canvas { width: 1fr; height: 1fr; background: ansi_default; color: ansi_default; }
    """

    def __init__(self, clicked: Callable[[int, int], None], scrolled: Callable[[int], None], coloured: bool) -> None:
        super().__init__()
        self._clicked = clicked
        self._scrolled = scrolled
        self._coloured = coloured
        self.lines: list[Line] = []

    def show(self, lines: Sequence[Line]) -> None:
        """Show these lines in the place of the last ones."""
        old, self.lines = self.lines, list(lines)
        regions = []
        for y in range(max(len(old), len(self.lines))):
            before = old[y] if y < len(old) else ()
            after = self.lines[y] if y < len(self.lines) else ()
            if before != after:
                x, end = _difference(before, after)
                regions.append(Region(x, y, end - x, 1))
        if regions:
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        """Return a line as Textual draws it."""
        width = self.size.width
        spans = self.lines[y] if y < len(self.lines) else ()
        segments = [Segment(span.text, _style(span.style, self._coloured)) for span in spans]
        return Strip(segments, line_width(spans)).adjust_cell_length(width, Style.null())

    def on_click(self, event: events.Click) -> None:
        """Tell where somebody clicked, and how often."""
        self._clicked(event.y, event.chain)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll down."""
        self._scrolled(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll up."""
        self._scrolled(-3)


def _difference(before: Line, after: Line) -> tuple[int, int]:
    """Return the first column in which two lines differ, and the one after the last."""
    width = max(line_width(before), line_width(after))
    texts = plain(before), plain(after)
    if not (texts[0].isascii() and texts[1].isascii()) and any(len(text) != width_of(text) for text in texts):
        return 0, width  # with wide characters a column is not a place in the text
    left, right = (_cells(text, spans, width) for text, spans in zip(texts, (before, after), strict=True))
    changed = [place for place, pair in enumerate(zip(left, right, strict=True)) if pair[0] != pair[1]]
    return (changed[0], changed[-1] + 1) if changed else (0, width)


def _cells(text: str, spans: Line, width: int) -> list[tuple[str, str]]:
    styles = [span.style for span in spans for _ in span.text]
    rest = width - len(text)
    return [*zip(padded(text, width), [*styles, *[""] * rest], strict=True)]
