"""Text so far in a pipe and on a terminal: one line that is updated."""

from __future__ import annotations

import io

from flowherd.live_text import LiveText


class Screen(io.StringIO):
    """A terminal of one line a row, which knows carriage returns, newlines and "erase to the end of the line"."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def rows(self) -> list[str]:
        """What a person sees."""
        rows = []
        for row in self.getvalue().split("\n"):
            shown = ""
            for part in row.split("\r"):
                part, erase, rest = part.partition("\x1b[K")
                shown = part + (rest if erase else shown[len(part) :])
            rows.append(shown)
        return rows


def show(screen: Screen) -> LiveText:
    """A bar on stderr, a line on stdout in the middle of it, and a prompt that is answered."""
    live = LiveText(screen)
    finish = lambda key, text: live.line(key, text, lambda: screen.write(f"{key}: {text}\n"))  # noqa: E731
    finish("out", "first")
    live.so_far("err", "err: ", "10%")
    live.so_far("err", "err: ", "20%")
    live.so_far("err", "err: ", "20%")
    finish("out", "between")
    live.so_far("err", "err: ", "30%")
    finish("err", "100%")
    live.so_far("out", "out: ", "Name")
    live.so_far("out", "out: ", "Name?")
    finish("out", "Name? Ada")
    live.so_far("out", "out: ", "rest")
    live.end()
    live.end()
    return live


def test_on_a_terminal_a_line_is_erased_for_others_and_shown_again() -> None:
    screen = Screen(terminal=True)
    show(screen)
    assert screen.rows() == ["out: first", "out: between", "err: 100%", "out: Name? Ada", "out: rest", ""]


def test_in_a_pipe_a_text_that_goes_on_is_continued_and_one_that_changes_is_overwritten() -> None:
    screen = Screen(terminal=False)
    show(screen)
    assert screen.getvalue() == (
        "out: first\nerr: 10%\rerr: 20%\nout: between\nerr: 30%\rerr: 100%\nout: Name? Ada\nout: rest\n"
    )


def test_a_text_that_does_not_fit_on_a_terminals_line_shows_its_end() -> None:
    screen = Screen(terminal=True)
    LiveText(screen).so_far("out", "out: ", "x" * 10_000 + "end")
    assert screen.getvalue().endswith("xend") and len(screen.getvalue()) < 1000
