"""The log of a run: its lines folded to the width, with levels, search, and following."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from flowherd.cli.top.folding import coloured, wrapped
from flowherd.cli.top.sources import LogEntry
from flowherd.cli.top.spans import Line, Span, at_left, clean, fitted, line, plain

#: Names of what is shown by level, and the level of logging that a server is asked for.
LEVELS = (("all levels", None), ("warnings and errors", "WARNING"), ("errors", "ERROR"))
#: Maximum number of lines of a log that are held; the oldest leave it.
MOST_ENTRIES = 10_000
#: So many more before the oldest leave it, all at once.
_SPARE = 1_000
_TAG_WIDTH, _STAMP_WIDTH = 9, 12
#: Below this width a line has no tag.
_NO_TAG_BELOW = 60
_TAG_STYLES = {
    "flowherd": "dim",
    "WARNING": "warn",
    "ERROR": "bad",
    "CRITICAL": "bad",
    "DEBUG": "dim",
    "stderr": "warn",
}


@dataclass
class LogPane:
    """The lines that were read, and where a person is in them."""

    entries: list[LogEntry] = field(default_factory=list)
    #: Whether the end is shown, and what comes.
    following: bool = True
    #: First line of the screen, of the folded ones.
    top: int = 0
    search: str = ""
    #: Place of the entry that was found last; None without one.
    found: int | None = None
    #: Whether nothing has been read yet.
    loading: bool = True
    #: Number of lines from the top of the screen to the end, to be kept at the next drawing.
    _from_end: int | None = None
    _width: int = 0
    _lines: list[Line] = field(default_factory=list)
    #: Number of the first folded line of each entry.
    _starts: list[int] = field(default_factory=list)

    def add(self, entries: Sequence[LogEntry]) -> None:
        """Add lines at the end."""
        self.loading = False
        self.entries += entries
        if len(self.entries) > MOST_ENTRIES + _SPARE:
            self._forget(len(self.entries) - MOST_ENTRIES)

    def _forget(self, count: int) -> None:
        """Take away the oldest lines, and of the folded ones no others."""
        folded = self._starts[count] if count < len(self._starts) else len(self._lines)
        del self.entries[:count], self._lines[:folded]
        self._starts = [start - folded for start in self._starts[count:]]
        self.top = max(0, self.top - folded)
        self.found = self.found - count if self.found is not None and self.found >= count else None

    def replace(self, entries: Sequence[LogEntry]) -> None:
        """Show other lines in the place of all; what is read stays as far from the end as it was."""
        self._from_end = len(self._lines) - self.top
        self.entries, self._starts, self._lines, self.found = [], [], [], None
        self.add(entries)

    def draw(self, width: int, height: int) -> list[Line]:
        """Return the lines of the screen."""
        self._fold(width)
        if not self._lines:
            text = "Reading the log…" if self.loading else "There are no lines."
            return [line(Span(f" {text}", "dim"))]
        last = max(0, len(self._lines) - height)
        if self._from_end is not None:
            self.top, self._from_end = len(self._lines) - self._from_end, None
        self.top = last if self.following else max(0, min(self.top, last))
        shown = self._lines[self.top : self.top + height]
        return [_marked(one, self.search) for one in shown] if self.search else shown

    def scroll(self, lines: int, height: int) -> None:
        """Move by so many lines; at the end the log is followed again."""
        last = max(0, len(self._lines) - height)
        self.top = max(0, min((last if self.following else self.top) + lines, last))
        self.following = self.top >= last

    def find(self, text: str, height: int) -> None:
        """Look for a text from the end backwards; empty to look for nothing."""
        self.search, self.found = text.lower(), None
        if text:
            self.step(-1, height)

    def step(self, direction: int, height: int, *, errors: bool = False) -> bool:
        """Go to the next entry (1) or the one before (-1) that has the text, or that tells of an error."""
        wanted = [n for n, entry in enumerate(self.entries) if (entry.is_error if errors else self._has(entry))]
        if not wanted:
            return False
        here = self.found if self.found is not None else (len(self.entries) if direction < 0 else -1)
        later = [n for n in wanted if (n > here if direction > 0 else n < here)]
        self.found = (later[0] if direction > 0 else later[-1]) if later else wanted[0 if direction > 0 else -1]
        self.following = False
        if self.found < len(self._starts):
            self.top = max(0, self._starts[self.found] - height // 2)
        return True

    def count(self) -> str:
        """Return which of how many entries with the text it is: "2 of 5"; empty if nothing is looked for."""
        if not self.search:
            return ""
        wanted = [n for n, entry in enumerate(self.entries) if self._has(entry)]
        place = wanted.index(self.found) + 1 if self.found in wanted else 0
        return f"{place} of {len(wanted):,}" if wanted else "not found"

    def _has(self, entry: LogEntry) -> bool:
        return bool(self.search) and self.search in entry.message.lower()

    def _fold(self, width: int) -> None:
        if width != self._width:
            self._width, self._starts, self._lines = width, [], []
        for entry in self.entries[len(self._starts) :]:
            self._starts.append(len(self._lines))
            self._lines += entry_lines(entry, width)


def entry_lines(entry: LogEntry, width: int) -> list[Line]:
    """Return a line of a log folded to `width` columns; what follows its first line is indented."""
    stamp = f"{entry.at.astimezone():%H:%M:%S}.{entry.at.microsecond // 1000:03d}"
    tag = at_left(clean(entry.tag), _TAG_WIDTH) if width >= _NO_TAG_BELOW else ""
    indent = 1 + _STAMP_WIDTH + 1 + (len(tag) + 1 if tag else 0)
    folded = [part for one in coloured(entry.message) for part in wrapped(one, width - indent)] or [()]
    style = _TAG_STYLES.get(entry.tag, "")
    label = line(Span(f" {stamp} ", "dim"), Span(f"{tag} " if tag else "", style))
    if entry.is_error:
        folded = [tuple(Span(span.text, span.style or "bad") for span in one) for one in folded]
    return [line(*label, *folded[0]), *(line(" " * indent, *rest) for rest in folded[1:])]


def last_lines(entries: Sequence[LogEntry], width: int, height: int) -> list[Line]:
    """Return the last lines of a log for a place of this size, each entry in one line."""
    return [fitted(entry_lines(entry, 10_000)[0], width) for entry in entries[-height:]]


def _marked(spans: Line, search: str) -> Line:
    """Return a line with each place of the text that is looked for marked."""
    text = plain(spans).lower()
    if search not in text or len(text) != len(plain(spans)):
        return spans
    marked: list[Span] = []
    at = 0
    for span in spans:
        rest, start = span.text, at
        at += len(rest)
        while rest:
            place = text.find(search, max(0, start - len(search) + 1))
            if place < 0 or place >= start + len(rest):
                marked.append(Span(rest, span.style))
                break
            before = max(0, place - start)
            inside = min(len(rest), place + len(search) - start)
            marked += [Span(rest[:before], span.style), Span(rest[before:inside], "found")]
            rest, start = rest[inside:], start + inside
    return line(*marked)
