"""How lines of a run's log are shown: coloured on a terminal, plain in a pipe, as JSON, or not at all."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from flowherd.cli.printing import LEVEL_STYLES, console, escaped, is_terminal, json_line
from flowherd.cli.runs.follow import Line
from flowherd.values import subflow_mark


def emit_nothing(lines: Iterable[Line]) -> None:
    """Consume the lines without showing them."""
    for _ in lines:
        pass


def emit_json(lines: Iterable[Line]) -> None:
    """Print one JSON object per line."""
    for line in lines:
        fields = {"timestamp": line.at, "stream": line.stream, "level": line.level, "logger": line.logger}
        of_subflow = {"subflow_run_id": line.subflow_run_id} if line.subflow_run_id else {}
        print(json_line({**fields, "message": line.message, **of_subflow}))
    sys.stdout.flush()


def emit_text(lines: Iterable[Line]) -> None:
    """Print time, stream or level, and message of each line."""
    if is_terminal():
        _emit_coloured(lines)
        return
    for line in lines:
        print(f"{_stamp(line, full=True)}  {_tag(line):<8}  {_message(line)}")
    sys.stdout.flush()


def _emit_coloured(lines: Iterable[Line]) -> None:
    from rich.text import Text

    screen = console()
    for line in lines:
        style = "dim" if line.stream == "flowherd" else LEVEL_STYLES.get(line.level, "")
        text = Text.assemble((_stamp(line, full=False), "dim"), "  ", (f"{_tag(line):<8}", style), "  ")
        screen.print(text.append(escaped(_message(line))), soft_wrap=True)


def _stamp(line: Line, *, full: bool) -> str:
    local = line.at.astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S" if full else "%H:%M:%S") + f".{local.microsecond // 1000:03d}"


def _tag(line: Line) -> str:
    return line.level if line.stream == "log" else line.stream


def _message(line: Line) -> str:
    if line.stream != "log":
        return line.message
    owner = f"{line.logger} {subflow_mark(line.subflow_run_id)}" if line.subflow_run_id else line.logger
    return f"{owner}: {line.message}"
