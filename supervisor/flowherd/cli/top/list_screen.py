"""The main screen's keys, and what is asked about its current run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from flowherd.cli.top import beside_view, list_view
from flowherd.cli.top.agents_screen import AgentsScreen, ask_agent
from flowherd.cli.top.current_run import CurrentRun
from flowherd.cli.top.dialogs import cancel_question, retry_question
from flowherd.cli.top.folding import wrapped
from flowherd.cli.top.list_view import Drawn, ListState
from flowherd.cli.top.picture import Picture, RunRow
from flowherd.cli.top.run_screen import RunScreen
from flowherd.cli.top.screens import View
from flowherd.cli.top.sorting import SORTS, in_sort
from flowherd.cli.top.spans import Line, Span, clean, line
from flowherd.cli.top.terms import Filter, read_filter
from flowherd.errors import InvalidRequest
from flowherd.states import FINISHED

if TYPE_CHECKING:
    from flowherd.cli.top.app import TopApp


class ListScreen(View):
    """The list of runs."""

    def __init__(self, top: TopApp) -> None:
        super().__init__(top)
        self._drawn = Drawn([])
        self._at = CurrentRun(top, self.redraw)

    @property
    def state(self) -> ListState:
        """What a person has chosen."""
        return self.top.list_state

    def change(self, **changes: object) -> None:
        """Choose something else."""
        self.top.list_state = replace(self.state, **changes)  # type: ignore[arg-type]

    def picture(self) -> Picture | None:
        """Return the runs in the order that was chosen; None before the first look."""
        known = self.top.picture
        return known if known is None or not self.state.sort else in_sort(known, self.state.sort)

    def draw(self, width: int, height: int) -> list[Line]:
        """Return the lines of the screen."""
        picture = self.picture()
        now = datetime.now(timezone.utc)
        if picture is None:
            text = clean(self.top.problem) or "Asking…"
            return wrapped(line(Span(f" {text}", "warn" if self.top.problem else "dim")), width)[:height]
        shape = list_view.shape_of(picture, width, height)
        row = picture.row(self.state.current)
        self._drawn = list_view.draw(picture, self.state, width, height, now, self._of_current(row, shape, now))
        rows = picture.rows
        place = next((n for n, one in enumerate(rows) if one.id == self._drawn.current), 0)
        self.change(current=self._drawn.current, place=place, top=self._drawn.top)
        return self._drawn.lines

    def _of_current(self, row: RunRow | None, shape: list_view.Shape, now: datetime) -> list[Line]:
        if row is None or not (shape.below or shape.beside):
            return []
        if shape.below:
            return beside_view.below(row, self._at.entries, shape.width, shape.below)
        return beside_view.beside(row, self._at.page, self._at.entries, shape.beside - 2, shape.rows + 2, now)

    def looked(self) -> None:
        """Ask about the current run too, if there is room for it."""
        picture, (width, height) = self.picture(), self.room()
        if picture is None or not width:
            return
        shape = list_view.shape_of(picture, width, height)
        row = picture.row(self.state.current) or (picture.rows[0] if picture.rows else None)
        if self.top.screen is self and (shape.below or shape.beside) and row is not None:
            self._at.look(row, with_page=bool(shape.beside))

    def say(self, text: str, style: str = "bold") -> None:
        """Show a line above the keys."""
        self.change(note=text, note_style=style)
        self.redraw()

    def keys(self) -> Mapping[str, Callable[[], None]]:
        """Return what each key does."""
        page = max(1, self._drawn.shape.rows - 1 if self._drawn.shape is not None else 1)
        return {
            **dict.fromkeys(("j", "down"), lambda: self._move(1)),
            **dict.fromkeys(("k", "up"), lambda: self._move(-1)),
            "pagedown": lambda: self._move(page),
            "pageup": lambda: self._move(-page),
            **dict.fromkeys(("home", "g"), lambda: self._move(-(10**9))),
            **dict.fromkeys(("end", "G"), lambda: self._move(10**9)),
            **dict.fromkeys(("enter", "l"), lambda: self._open(0)),
            "e": lambda: self._open(1),
            "t": lambda: self._open(2),
            "space": self._mark,
            " ": self._mark,
            "c": self._cancel,
            "r": self._retry,
            "/": self._filter,
            "s": self._sort,
            "S": lambda: self.change(sort=""),
            "y": self._copy,
            "a": lambda: self._push(AgentsScreen(self.top)),
            "p": lambda: self._ask_agent("pause"),
            "d": lambda: self._ask_agent("drain"),
            "R": lambda: self._ask_agent("restart"),
            "?": self.show_keys,
            "escape": self._forget,
            "q": self.leave,
        }

    def clicked(self, y: int, times: int) -> None:
        """Go to the row that was clicked on, and open it at the second click."""
        run_id = self._drawn.runs.get(y)
        if run_id is not None:
            self.change(current=run_id)
            self.redraw()
            if times > 1:
                self._open(0)

    def scrolled(self, lines: int) -> None:
        """Move through the list."""
        self._move(lines)
        self.redraw()

    def _move(self, by: int) -> None:
        picture = self.picture()
        if picture is None or not picture.rows:
            return
        place = max(0, min(self.state.place + by, len(picture.rows) - 1))
        self.change(place=place, current=picture.rows[place].id)
        self.looked()

    def _current(self) -> RunRow | None:
        picture = self.picture()
        return None if picture is None else picture.row(self.state.current)

    def _chosen(self) -> list[RunRow]:
        """Return the marked rows, else the current one."""
        picture = self.picture()
        marked = [row for row in picture.rows if row.id in self.state.marked] if picture is not None else []
        current = self._current()
        return marked or ([current] if current is not None else [])

    def _open(self, tab: int) -> None:
        row = self._current()
        if row is not None:
            self._push(RunScreen(self.top, row, tab))

    def _push(self, view: View) -> None:
        self.top.push_screen(view)

    def _mark(self) -> None:
        row = self._current()
        if row is not None:
            self.change(marked=self.state.marked ^ {row.id})
            self._move(1)

    def _cancel(self) -> None:
        rows = [row for row in self._chosen() if row.state not in FINISHED]
        if not rows:
            self.say("It has ended already; there is nothing to cancel", "warn")
            return
        self.confirm(cancel_question(rows, datetime.now(timezone.utc)), lambda: self._act(self.top.source.cancel, rows))

    def _retry(self) -> None:
        rows = [row for row in self._chosen() if row.state in FINISHED]
        if not rows:
            self.say("It has not ended; only a run that has ended can be run again", "warn")
            return
        self.confirm(retry_question(rows, datetime.now(timezone.utc)), lambda: self._act(self.top.source.retry, rows))

    def _act(self, action: Callable[[Sequence[str]], str], rows: Sequence[RunRow]) -> None:
        ids = [row.id for row in rows]
        self.change(marked=frozenset())
        self.top.act(lambda: action(ids))

    def _ask_agent(self, action: str) -> None:
        row, picture = self._current(), self.picture()
        agent = (
            next((one for one in picture.agents if row is not None and one.name == row.agent), None)
            if picture
            else None
        )
        if agent is None:
            self.say("No agent has this run; `a` shows the agents", "warn")
            return
        ask_agent(self, agent, action)

    def _filter(self) -> None:
        self.type_line("state: is: flow: agent: label: since: before: took: or words", self.state.terms, self._filtered)

    def _filtered(self, text: str) -> None:
        try:
            terms = read_filter(text, datetime.now(timezone.utc))
        except InvalidRequest as error:
            self.say(str(error), "bad")
            return
        self.top.terms = terms
        self.change(terms=text, marked=frozenset())
        self.top.asker.look_now()

    def _sort(self) -> None:
        names = ["", *SORTS]
        self.change(sort=names[(names.index(self.state.sort) + 1) % len(names)])

    def _copy(self) -> None:
        row = self._current()
        if row is not None:
            self.top.copy_to_clipboard(row.id)
            self.say(f"Copied {row.id}")

    def _forget(self) -> None:
        """Take back what was chosen: marks first, then the filter."""
        if self.state.marked:
            self.change(marked=frozenset())
        elif self.state.terms:
            self.top.terms = Filter()
            self.change(terms="")
            self.top.asker.look_now()
