"""The keys of the screen of one run, and what is asked about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

from flowherd.cli.top import run_view
from flowherd.cli.top.columns import SHORT_ID
from flowherd.cli.top.dialogs import cancel_question, retry_question
from flowherd.cli.top.log_pane import LEVELS, MOST_ENTRIES
from flowherd.cli.top.picture import RunRow
from flowherd.cli.top.run_view import RunState
from flowherd.cli.top.screens import View
from flowherd.cli.top.sources import LogEntry, LogReader, RunPage
from flowherd.cli.top.spans import Line
from flowherd.states import FINISHED
from flowherd.story.order import Group

if TYPE_CHECKING:
    from flowherd.cli.top.app import TopApp

#: Lines of the log that are read at first, and the factor by which `[` reads more.
_READ, _MORE = 1000, 5
#: Looks after which what is known of a run beside its log is asked for again, and the same if that is shown.
_PAGE_EVERY, _OFTEN = 5, 1


class RunScreen(View):
    """One run."""

    def __init__(self, top: TopApp, row: RunRow, tab: int) -> None:
        super().__init__(top)
        self._row = row
        self._page: RunPage | None = None
        self.state = RunState(tab=tab)
        self._reader: LogReader | None = None
        self._count = _READ
        self._asks = False
        #: Looks until the page is asked for again.
        self._page_in = 0
        #: Whether the log and the rest were read after the run's end.
        self._is_complete = False

    def on_mount(self) -> None:
        """Draw the screen and ask for the run."""
        super().on_mount()
        self.looked()

    def draw(self, width: int, height: int) -> list[Line]:
        """Return the lines of the screen."""
        self.state.away_since = self.top.list_state.away_since
        return run_view.draw(self._row, self._page, self.state, width, height, datetime.now(timezone.utc))

    def looked(self) -> None:
        """Ask for what is new of the run."""
        known = self.top.picture.row(self._row.id) if self.top.picture is not None else None
        if known is not None:
            self._is_complete = self._is_complete and known.state == self._row.state
            self._row = known
        elif self._row.state not in FINISHED:
            self._is_complete = False
        if self._asks or self._is_complete:
            return
        self._asks = True
        row, reader = self._row, self._reader
        with_page = self._page is None or self._page_in <= 0 or row.state in FINISHED
        self._page_in = (_PAGE_EVERY if self.state.tab == 0 else _OFTEN) if with_page else self._page_in - 1
        self.top.ask(lambda: self._ask(row, reader, with_page), lambda found: self._answer(row, *found), self._failed)

    def _ask(
        self, row: RunRow, reader: LogReader | None, with_page: bool
    ) -> tuple[LogReader, list[LogEntry], RunPage | None, bool]:
        page = self.top.source.page(row) if with_page else None
        if reader is None:
            reader = self.top.source.log(row, LEVELS[self.state.level][1])
            return reader, reader.last(self._count), page, True
        new: list[LogEntry] = []
        while len(new) < self._count and (more := reader.more()):
            new += more
        return reader, new, page, False

    def _answer(self, row: RunRow, reader: LogReader, new: list[LogEntry], page: RunPage | None, anew: bool) -> None:
        self._asks = False
        self._page = page or self._page
        if (
            page is not None and page.state in FINISHED and self._row.state not in FINISHED
        ):  # and it has no row of its own in the list
            self._row = replace(
                self._row, state=page.state, ended=page.ended, group=Group.ENDED, figures=None, stuck=""
            )
        if self._reader is None and not anew:  # another level was chosen meanwhile
            self.looked()
            return
        self._reader = reader
        (self.state.pane.replace if anew else self.state.pane.add)(new)
        self._is_complete = row.state in FINISHED and not new
        self.redraw()

    def _failed(self, problem: str) -> None:
        self._asks = False
        self.say(problem, "bad")

    def say(self, text: str, style: str = "bold") -> None:
        """Show a line in the place of the keys."""
        self.state.note, self.state.note_style = text, style
        self.redraw()

    def keys(self) -> Mapping[str, Callable[[], None]]:
        """Return what each key does."""
        pane, height = self.state.pane, self._height()
        return {
            **{str(n + 1): partial(self._show, n) for n in range(len(run_view.TABS))},
            "tab": lambda: self._show((self.state.tab + 1) % len(run_view.TABS)),
            **dict.fromkeys(("j", "down"), lambda: self.scrolled(1)),
            **dict.fromkeys(("k", "up"), lambda: self.scrolled(-1)),
            **dict.fromkeys(("pagedown", "space", " "), lambda: self.scrolled(height - 1)),
            "pageup": lambda: self.scrolled(1 - height),
            **dict.fromkeys(("home", "g"), lambda: self.scrolled(-(10**9))),
            **dict.fromkeys(("end", "G"), lambda: self.scrolled(10**9)),
            "f": self._follow,
            "/": lambda: self.type_line("search", pane.search, self._search),
            "n": lambda: self._step(1, errors=False),
            "N": lambda: self._step(-1, errors=False),
            "e": lambda: self._step(1, errors=True),
            "E": lambda: self._step(-1, errors=True),
            "v": self._level,
            "[": self._earlier,
            "c": self._cancel,
            "r": self._retry,
            "y": self._copy,
            "?": self.show_keys,
            "escape": self.back,
            "q": self.back,
        }

    def scrolled(self, lines: int) -> None:
        """Move through what is shown."""
        if self.state.tab == 0:
            self.state.pane.scroll(lines, self._height())
        else:
            self.state.top = max(0, self.state.top + lines)
        self.redraw()

    def _height(self) -> int:
        width, height = self.room()
        return run_view.body_height(run_view.head_height(self._row, self._page, width), height)

    def _show(self, tab: int) -> None:
        self.state.tab, self.state.top, self._page_in = tab, 0, 0

    def _follow(self) -> None:
        self.state.pane.following = not self.state.pane.following

    def _search(self, text: str) -> None:
        self._show(0)
        self.state.pane.find(text, self._height())

    def _step(self, direction: int, *, errors: bool) -> None:
        self._show(0)
        if not self.state.pane.step(direction, self._height(), errors=errors):
            self.say("No line tells of an error" if errors else "Nothing was found", "warn")

    def _level(self) -> None:
        self.state.level = (self.state.level + 1) % len(LEVELS)
        self._read_anew()

    def _earlier(self) -> None:
        if len(self.state.pane.entries) < self._count:
            self.say("This is the beginning of the log")
            return
        if self._count >= MOST_ENTRIES:
            self.say(f"Earlier lines: `flowherd logs {self._row.id[:SHORT_ID]}`")
            return
        self._count = min(MOST_ENTRIES, self._count * _MORE)
        self.state.pane.following = False
        self._read_anew()

    def _read_anew(self) -> None:
        self._show(0)
        self._reader, self._is_complete = None, False
        self.looked()

    def _cancel(self) -> None:
        if self._row.state in FINISHED:
            self.say("It has ended already; there is nothing to cancel", "warn")
            return
        question = cancel_question([self._row], datetime.now(timezone.utc))
        self.confirm(question, lambda: self.top.act(lambda: self.top.source.cancel([self._row.id])))

    def _retry(self) -> None:
        if self._row.state not in FINISHED:
            self.say("It has not ended; only a run that has ended can be run again", "warn")
            return
        question = retry_question([self._row], datetime.now(timezone.utc))
        self.confirm(question, lambda: self.top.act(lambda: self.top.source.retry([self._row.id])))

    def _copy(self) -> None:
        self.top.copy_to_clipboard(self._row.id)
        self.say(f"Copied {self._row.id}")
