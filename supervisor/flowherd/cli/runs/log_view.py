"""How lines of a run's log are shown: coloured on a terminal, plain in a pipe, as JSON, or not at all.

A flow's text cannot control the terminal: its colours reach a terminal, every other control is escaped, and further
lines of a message are indented, so that none passes for a line of the log.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable

from flowherd.cli.printing import LEVEL_STYLES, console, is_terminal, json_line
from flowherd.cli.runs.follow import Line
from flowherd.live_text import LiveText
from flowherd.shown_text import lines as shown_lines
from flowherd.shown_text import one_line, with_colours
from flowherd.values import subflow_mark


def emit_json(lines: Iterable[Line]) -> None:
    """Print one JSON object per line; each change of an unfinished line is one too, with "so_far": true."""
    for line in lines:
        fields = {"timestamp": line.at, "stream": line.stream, "level": line.level, "logger": line.logger}
        of_subflow = {"subflow_run_id": line.subflow_run_id} if line.subflow_run_id else {}
        so_far = {"so_far": True} if line.so_far else {}
        print(json_line({**fields, "message": line.message, **of_subflow, **so_far}), flush=line.so_far)
    sys.stdout.flush()


def emit_text(lines: Iterable[Line]) -> None:
    """Print time, stream or level, and message of each line of a log that does not grow."""
    view = TextView()
    view(lines)
    view.end()


class TextView:
    """Prints time, stream or level, and message of each line; text so far in one line that is updated."""

    def __init__(self) -> None:
        self._live = LiveText(sys.stdout)
        self._show = _coloured_printer() if is_terminal() else _print_plain

    def __call__(self, lines: Iterable[Line]) -> None:
        """Print the lines."""
        for line in lines:
            if line.so_far:
                label = f"{_stamp(line, full=not is_terminal())}  {_tag(line):<8}  "
                self._live.so_far(line.stream, label, _unbroken(line))
            else:
                self._live.line(line.stream, _unbroken(line), functools.partial(self._show, line))
        sys.stdout.flush()

    def end(self) -> None:
        """End a line of text so far: no more comes."""
        self._live.end()


def _print_plain(line: Line) -> None:
    label = f"{_stamp(line, full=True)}  {_tag(line):<8}  "
    print(label + _indented(shown_lines(_message(line)), label))


def _coloured_printer() -> Callable[[Line], None]:
    from rich.text import Text

    screen = console()

    def show(line: Line) -> None:
        style = "dim" if line.stream == "flowherd" else LEVEL_STYLES.get(line.level, "")
        text = Text.assemble((_stamp(line, full=False), "dim"), "  ", (f"{_tag(line):<8}", style), "  ")
        message = _indented(with_colours(_message(line)), text.plain)
        screen.print(text.append_text(Text.from_ansi(message)), soft_wrap=True)

    return show


def _unbroken(line: Line) -> str:
    """Return the message as it can stand in a line that is updated."""
    return shown_lines(_message(line)).replace("\n", "\\n")


def _indented(message: str, label: str) -> str:
    """Indent all lines of a message but the first by the width of the label before it."""
    return message.replace("\n", "\n" + " " * len(label))


def _stamp(line: Line, *, full: bool) -> str:
    local = line.at.astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S" if full else "%H:%M:%S") + f".{local.microsecond // 1000:03d}"


def _tag(line: Line) -> str:
    return one_line(line.level if line.stream == "log" else line.stream)


def _message(line: Line) -> str:
    if line.stream != "log":
        return line.message
    owner = f"{line.logger} {subflow_mark(line.subflow_run_id)}" if line.subflow_run_id else line.logger
    return f"{one_line(owner)}: {line.message}"
