"""The program: screens, keys, and what is asked in the background."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, ClassVar

from loguru import logger
from textual.app import App
from textual.binding import Binding, BindingType
from textual.message import Message

from flowherd.cli.top.asker import Asker
from flowherd.cli.top.list_screen import ListScreen
from flowherd.cli.top.list_view import ListState
from flowherd.cli.top.picture import Picture
from flowherd.cli.top.screens import View
from flowherd.cli.top.sources import Source
from flowherd.cli.top.terms import Filter
from flowherd.errors import FlowherdError

#: How long the end waits for an answer that is under way, seconds.
_END_TIMEOUT_S = 2.0


class Delivered(Message):
    """An answer that is to be dealt with in the thread that draws."""

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__()
        self.call = call


class TopApp(App[None]):
    """`flowherd top`: `source` is asked every `interval_s` seconds."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("ctrl+q", "quit", show=False),
    ]
    CSS = "Screen { background: ansi_default; color: ansi_default; }"

    def __init__(self, source: Source, interval_s: float) -> None:
        super().__init__(ansi_color=True)
        self.source = source
        self.coloured = not os.environ.get("NO_COLOR")
        self.terms = Filter()
        self.picture: Picture | None = None
        #: Signals at which it ends, with the terminal as it was.
        self.ends_at: Sequence[signal.Signals] = ()
        #: Why nothing was found out yet; empty once there is a picture.
        self.problem = ""
        self.list_state = ListState(coloured=self.coloured)
        self.asker = Asker(lambda: source.look(self.terms), interval_s, self._deliver, self._seen, self._not_seen)

    def get_default_screen(self) -> View:
        """Return the screen that is below all others."""
        return ListScreen(self)

    def on_mount(self) -> None:
        """Begin to ask."""
        for number in self.ends_at:
            asyncio.get_running_loop().add_signal_handler(number, self._end_at, number)
        self.asker.start()

    def _end_at(self, number: signal.Signals) -> None:
        self.exit(return_code=128 + number)

    def on_delivered(self, message: Delivered) -> None:
        """Deal with an answer."""
        message.call()

    def on_unmount(self) -> None:
        """Stop asking."""
        self.asker.stop()
        self.asker.join(_END_TIMEOUT_S)

    def ask(self, job: Callable[[], Any], then: Callable[[Any], None], failed: Callable[[str], None]) -> None:
        """Have something asked in the background."""
        self.asker.ask(job, then, lambda error: failed(str(error)))

    def act(self, job: Callable[[], str]) -> None:
        """Have something done, say what came of it, and look what has changed."""

        def done(said: str) -> None:
            self.say(said)
            self.asker.look_now()

        self.ask(job, done, lambda problem: self.say(problem, "bad"))

    def say(self, text: str, style: str = "bold") -> None:
        """Show a line above the keys of the screen that is on top; the next key takes it away."""
        view = self.screen
        if isinstance(view, View):
            view.say(text, style)

    def warn(self, text: str) -> None:
        """Show a warning, from any thread."""
        self._deliver(lambda: self.say(text, "warn"))

    def _deliver(self, call: Callable[[], None]) -> None:
        self.post_message(Delivered(call))

    def _seen(self, picture: Picture) -> None:
        self.picture, self.problem = picture, ""
        self.list_state = replace(self.list_state, away_since=None)
        self._draw_again()

    def _not_seen(self, error: FlowherdError) -> None:
        self.problem = str(error)
        since = self.list_state.away_since or datetime.now(timezone.utc)
        self.list_state = replace(self.list_state, away_since=since, away_why=self.problem)
        self._draw_again()

    def _draw_again(self) -> None:
        # From the bottom to the top, because a box is drawn over what is below it.
        for view in self.screen_stack:
            if isinstance(view, View) and view.is_mounted:
                view.looked()
                view.redraw()


def run_app(source: Source, interval_s: float, *, mouse: bool) -> int:
    """Show the program until a person leaves it, and return its exit code. Warnings become lines of it."""
    app = TopApp(source, interval_s)
    # It draws on standard error, where warnings would tear it.
    logger.remove()
    logger.add(lambda text: app.warn(str(text).strip()), level="WARNING", format="{message}")
    logging.lastResort = None
    app.ends_at = (signal.SIGTERM, signal.SIGHUP)
    try:
        app.run(mouse=mouse)
    finally:
        source.close()
    return app.return_code or 0
