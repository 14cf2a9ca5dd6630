"""The current run of the list, as far as there is room for it: its log, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flowherd.cli.top.picture import RunRow
from flowherd.cli.top.sources import LogEntry, LogReader, RunPage

if TYPE_CHECKING:
    from flowherd.cli.top.app import TopApp

#: Lines of the log that are read, and that are held.
_READ, _HELD = 50, 200
#: Looks after which what is known of a run is asked for again.
_PAGE_EVERY = 5


class CurrentRun:
    """Asks for one run after the other, in the background; `changed` is called when there is something new."""

    def __init__(self, top: TopApp, changed: Callable[[], None]) -> None:
        self._top = top
        self._changed = changed
        self._row: RunRow | None = None
        self._reader: LogReader | None = None
        #: Whether an answer is awaited; until then nothing more is asked.
        self._asks = False
        #: Looks until the page is asked for again.
        self._page_in = 0
        self.entries: list[LogEntry] = []
        self.page: RunPage | None = None

    def look(self, row: RunRow, *, with_page: bool) -> None:
        """Ask for what is new of this run."""
        changed = self._row is None or self._row.id != row.id
        ended = self._row is not None and self._row.state != row.state
        if changed:
            self.entries, self.page, self._reader = [], None, None
        if changed or ended:
            self._page_in = 0
        if self._asks or not (changed or ended or row.is_live or self._reader is None):
            return
        self._row, self._asks = row, True
        asks_page = with_page and self._page_in <= 0
        self._page_in = _PAGE_EVERY if asks_page else self._page_in - 1
        self._top.ask(lambda: self._ask(row, asks_page), lambda found: self._answer(row, *found), self._failed)

    def _ask(self, row: RunRow, with_page: bool) -> tuple[LogReader, list[LogEntry], RunPage | None]:
        reader = self._reader
        if reader is None:
            reader = self._top.source.log(row, None)
            new = reader.last(_READ)
        else:
            new = reader.more()
        return reader, new, self._top.source.page(row) if with_page else None

    def _answer(self, row: RunRow, reader: LogReader, new: list[LogEntry], page: RunPage | None) -> None:
        self._asks = False
        if self._row is None or self._row.id != row.id:
            return
        self._reader = reader
        self.entries = [*self.entries, *new][-_HELD:]
        self.page = page or self.page
        self._changed()

    def _failed(self, problem: str) -> None:
        self._asks = False
