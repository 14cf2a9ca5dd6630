"""What all screens have in common: a canvas, a line to type in, keys, and boxes over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Input

from flowherd.cli.top import dialogs
from flowherd.cli.top.canvas import Canvas
from flowherd.cli.top.dialogs import Question
from flowherd.cli.top.spans import Line

if TYPE_CHECKING:
    from flowherd.cli.top.app import TopApp


class View(Screen[None]):
    """A screen of lines; subclasses draw them and know the keys."""

    CSS = """
    View { layout: vertical; background: ansi_default; }
    View Input { display: none; height: 1; border: none; padding: 0 1; background: ansi_default; color: ansi_default; }
    View Input.typing { display: block; }
    """

    def __init__(self, top: TopApp) -> None:
        super().__init__()
        self.top = top
        self.canvas = Canvas(self.clicked, self.scrolled, top.coloured)
        self.typed = Input(compact=True)
        self._entered: Callable[[str], None] = lambda text: None

    def compose(self) -> ComposeResult:
        """Return the widgets of the screen."""
        yield self.canvas
        yield self.typed

    def on_mount(self) -> None:
        """Draw the screen."""
        self.typed.can_focus = False
        self.canvas.focus()
        self.redraw()

    def on_resize(self) -> None:
        """Draw the screen for its new size."""
        self.call_after_refresh(self.redraw)

    def on_screen_resume(self) -> None:
        """Draw the screen, which is on top again."""
        self.redraw()

    # -- what subclasses have

    def draw(self, width: int, height: int) -> list[Line]:
        """Return the lines of the screen."""
        raise NotImplementedError

    def keys(self) -> Mapping[str, Callable[[], None]]:
        """Return what each key does, by its character or by Textual's name of it."""
        raise NotImplementedError

    def say(self, text: str, style: str = "bold") -> None:
        """Show a line above the keys."""
        raise NotImplementedError

    def looked(self) -> None:
        """Learn that there is a new picture."""

    def clicked(self, y: int, times: int) -> None:
        """Learn that somebody clicked on a line."""

    def scrolled(self, lines: int) -> None:
        """Learn that somebody turned the wheel of the mouse."""

    # -- what they use

    def redraw(self) -> None:
        """Draw the screen again, as far as it has changed."""
        size = self.canvas.size
        if size.width and size.height:
            self.canvas.show(self.draw(size.width, size.height))

    def room(self) -> tuple[int, int]:
        """Return the width and the height of the screen."""
        return self.canvas.size.width, self.canvas.size.height

    def type_line(self, prompt: str, text: str, entered: Callable[[str], None]) -> None:
        """Have a person type a line, which begins as `text`; `entered` is given it."""
        self._entered = entered
        self.typed.can_focus = True
        self.typed.placeholder = prompt
        self.typed.value = text
        self.typed.cursor_position = len(text)
        self.typed.add_class("typing")
        self.typed.focus()
        self.call_after_refresh(self.redraw)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take what was typed."""
        event.stop()
        self._typed_enough()
        self._entered(event.value.strip())
        self.redraw()

    def on_key(self, event: events.Key) -> None:
        """Do what a key is for."""
        if self.typed.has_class("typing"):
            if event.key == "escape":
                event.stop()
                self._typed_enough()
            return
        action = self.keys().get(event.character or "") or self.keys().get(event.key)
        if action is not None:
            event.stop()
            event.prevent_default()
            self.say("", "")
            action()
            self.redraw()

    def _typed_enough(self) -> None:
        self.typed.remove_class("typing")
        self.typed.can_focus = False
        self.canvas.focus()
        self.call_after_refresh(self.redraw)

    def confirm(self, question: Question, yes: Callable[[], None]) -> None:
        """Ask before something is done."""
        self.top.push_screen(QuestionScreen(self.top, self, question, yes))

    def show_keys(self) -> None:
        """Show the list of all keys."""
        self.top.push_screen(KeysScreen(self.top, self))

    def back(self) -> None:
        """Leave the screen."""
        self.top.pop_screen()

    def leave(self) -> None:
        """Leave the program."""
        self.top.exit()


class _Box(View):
    """A box over the screen below."""

    def __init__(self, top: TopApp, below: View) -> None:
        super().__init__(top)
        self.below = below

    def box(self, width: int) -> list[Line]:
        """Return the lines of the box."""
        raise NotImplementedError

    def draw(self, width: int, height: int) -> list[Line]:
        """Return the screen below with the box in its middle."""
        return dialogs.over(self.below.draw(width, height), self.box(width), width, height)

    def say(self, text: str, style: str = "bold") -> None:
        """Show a line on the screen below."""
        self.below.say(text, style)


class QuestionScreen(_Box):
    """A question, whose answer yes is Enter or y."""

    def __init__(self, top: TopApp, below: View, question: Question, yes: Callable[[], None]) -> None:
        super().__init__(top, below)
        self._question = question
        self._yes = yes

    def box(self, width: int) -> list[Line]:
        """Return the lines of the question."""
        return dialogs.question_lines(self._question, width)

    def keys(self) -> Mapping[str, Callable[[], None]]:
        """Return what each key does."""
        return {"enter": self._agreed, "y": self._agreed, "escape": self.back, "n": self.back, "q": self.back}

    def _agreed(self) -> None:
        self.back()
        self._yes()


class KeysScreen(_Box):
    """All keys."""

    def box(self, width: int) -> list[Line]:
        """Return the list."""
        return dialogs.key_lines(width)

    def keys(self) -> Mapping[str, Callable[[], None]]:
        """Return what each key does."""
        return dict.fromkeys(("escape", "q", "?", "enter"), self.back)
