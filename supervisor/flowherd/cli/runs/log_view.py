"""How lines of a run's log are shown: coloured on a terminal, plain in a pipe, as JSON, or not at all.

A flow's text cannot control the terminal: its colours reach a terminal, every other control is escaped, and further
lines of a message are indented, so that none passes for a line of the log.
"""

from __future__ import annotations

import functools
import sys
import zlib
from collections.abc import Callable, Iterable
from datetime import timezone

from flowherd.cli.printing import LEVEL_STYLES, console, is_terminal, json_line
from flowherd.cli.runs.follow import Line
from flowherd.live_text import LiveText
from flowherd.shown_text import lines as shown_lines
from flowherd.shown_text import one_line, with_colours
from flowherd.values import subflow_mark

#: How times can be shown; the first is the default.
TIMESTAMPS = ("local", "utc", "none")
#: Rich styles of runs' names, by which the lines of several runs can be told apart.
_RUN_STYLES = ("cyan", "magenta", "green", "yellow", "blue")


def emit_json(lines: Iterable[Line]) -> None:
    """Print one JSON object per line; each change of an unfinished line is one too, with "so_far": true."""
    for line in lines:
        fields = {"timestamp": line.at, "stream": line.stream, "level": line.level, "logger": line.logger}
        of_run = {"flow_run_id": line.run.id, "flow_run_name": line.run.name} if line.run is not None else {}
        of_subflow = {"subflow_run_id": line.subflow_run_id} if line.subflow_run_id else {}
        so_far = {"so_far": True} if line.so_far else {}
        print(json_line({**fields, "message": line.message, **of_run, **of_subflow, **so_far}), flush=line.so_far)
    sys.stdout.flush()


def emit_text(lines: Iterable[Line]) -> None:
    """Print time, stream or level, and message of each line of a log that does not grow."""
    view = TextView()
    view(lines)
    view.end()


class TextView:
    """Prints time, run, stream or level, and message of each line; text so far in one line that is updated.

    The run is printed if the line names it. `timestamps` is one of TIMESTAMPS.
    """

    def __init__(self, timestamps: str = TIMESTAMPS[0]) -> None:
        self._live = LiveText(sys.stdout)
        self._timestamps = timestamps
        #: Length of the longest name of a run so far.
        self._run_width = 0
        self._show = self._coloured_printer() if is_terminal() else self._print_plain

    def __call__(self, lines: Iterable[Line]) -> None:
        """Print the lines."""
        for line in lines:
            key = (line.run.id if line.run is not None else None, line.stream)
            if line.so_far:
                self._live.so_far(key, "".join(self._label(line)), _unbroken(line))
            else:
                self._live.line(key, _unbroken(line), functools.partial(self._show, line))
        sys.stdout.flush()

    def end(self) -> None:
        """End a line of text so far: no more comes."""
        self._live.end()

    def _label(self, line: Line) -> tuple[str, str, str]:
        """Return time, run and tag, as they stand before a message; each is empty or ends with two blanks."""
        stamp, name = _stamp(line, self._timestamps, full=not is_terminal()), ""
        if line.run is not None:
            name = one_line(line.run.name)
            self._run_width = max(self._run_width, len(name))
            name = f"{name:<{self._run_width}}  "
        return stamp and f"{stamp}  ", name, f"{_tag(line):<8}  "

    def _print_plain(self, line: Line) -> None:
        label = "".join(self._label(line))
        print(label + _indented(shown_lines(_message(line)), label))

    def _coloured_printer(self) -> Callable[[Line], None]:
        from rich.text import Text

        screen = console()

        def show(line: Line) -> None:
            stamp, name, tag = self._label(line)
            style = "dim" if line.stream == "flowherd" else LEVEL_STYLES.get(line.level, "")
            text = Text.assemble((stamp, "dim"), (name, _run_style(line)), (tag, style))
            message = _indented(with_colours(_message(line)), text.plain)
            screen.print(text.append_text(Text.from_ansi(message)), soft_wrap=True)

        return show


def _run_style(line: Line) -> str:
    # Not by hash(), which differs from process to process.
    return _RUN_STYLES[zlib.crc32(line.run.id.encode()) % len(_RUN_STYLES)] if line.run is not None else ""


def _unbroken(line: Line) -> str:
    """Return the message as it can stand in a line that is updated."""
    return shown_lines(_message(line)).replace("\n", "\\n")


def _indented(message: str, label: str) -> str:
    """Indent all lines of a message but the first by the width of the label before it."""
    return message.replace("\n", "\n" + " " * len(label))


def _stamp(line: Line, timestamps: str, *, full: bool) -> str:
    if timestamps == "none":
        return ""
    is_utc = timestamps == "utc"
    at = line.at.astimezone(timezone.utc if is_utc else None)
    written = at.strftime("%Y-%m-%d %H:%M:%S" if full or is_utc else "%H:%M:%S")
    return f"{written}.{at.microsecond // 1000:03d}" + ("Z" if is_utc else "")


def _tag(line: Line) -> str:
    return one_line(line.level if line.stream == "log" else line.stream)


def _message(line: Line) -> str:
    if line.stream != "log":
        return line.message
    owner = f"{line.logger} {subflow_mark(line.subflow_run_id)}" if line.subflow_run_id else line.logger
    return f"{one_line(owner)}: {line.message}"
