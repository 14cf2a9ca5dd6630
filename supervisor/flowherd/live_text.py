"""Shows text so far of unfinished lines, on a terminal or in a pipe: one line that is updated, not one an update."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Hashable
from typing import NamedTuple, TextIO

#: Back to the first column, and erase to the end of the line (ECMA-48).
_ERASE = "\r\x1b[K"


class _Shown(NamedTuple):
    """The text so far that the cursor stands behind."""

    key: Hashable
    label: str
    text: str


class LiveText:
    """Writes finished lines and text so far to `out`, which may be a terminal.

    A pipe gets what a program would have written itself: a carriage return before a text that replaces another, and
    only what is new of a text that continues another.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._shown: _Shown | None = None

    def so_far(self, key: Hashable, label: str, text: str) -> None:
        """Show `text` of the unfinished line of `key`, with `label` before it."""
        shown = self._shown
        if shown is not None and shown.key == key:
            if shown.text == text:
                return
            self._out.write(self._change(shown, label, text))
        else:
            self.end()
            self._out.write(self._fitted(label + text))
        self._shown = _Shown(key, label, text)
        self._out.flush()

    def line(self, key: Hashable, text: str, write: Callable[[], object]) -> None:
        """Show the finished line of `key`; `write` writes the whole line, which has `text` behind its label."""
        shown = self._shown
        if shown is None:
            write()
        elif self._is_terminal:
            self._out.write(_ERASE)
            self._out.flush()
            write()
            self._shown = None
            if shown.key != key:
                self.so_far(*shown)
        else:
            self._finish_in_pipe(shown, key, text, write)
            self._shown = None

    def end(self) -> None:
        """End the line that the cursor is in, if any."""
        if self._shown is not None:
            self._out.write("\n")
            self._out.flush()
            self._shown = None

    def _change(self, shown: _Shown, label: str, text: str) -> str:
        if self._is_terminal:
            return _ERASE + self._fitted(label + text)
        return text[len(shown.text) :] if text.startswith(shown.text) else f"\r{label}{text}"

    def _finish_in_pipe(self, shown: _Shown, key: Hashable, text: str, write: Callable[[], object]) -> None:
        if shown.key == key and text.startswith(shown.text):
            self._out.write(text[len(shown.text) :] + "\n")
            return
        self._out.write("\r" if shown.key == key else "\n")
        self._out.flush()
        write()

    def _fitted(self, text: str) -> str:
        """Return the end of a text that does not fit on a line of the terminal: it could not be erased again."""
        if not self._is_terminal:
            return text
        width = shutil.get_terminal_size().columns - 1
        return text if len(text) <= width else "\u2026" + text[len(text) - width + 1 :]
