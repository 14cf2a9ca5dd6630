"""The help of the program itself, as Typer draws it, without Typer and rich: their import takes most of its time."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping

from flowherd.cli.commands import ABOUT, COMMANDS, EPILOG, OPTIONS

#: Narrower than this, rich lays it out.
_MIN_WIDTH = 60
#: Variables by which people choose how rich draws.
_CHOICES = (
    "FORCE_COLOR",
    "NO_COLOR",
    "PY_COLORS",
    "GITHUB_ACTIONS",
    "TERMINAL_WIDTH",
    "TYPER_USE_RICH",
    "TTY_COMPATIBLE",
)
_DIM, _NAME, _USAGE = "\033[2m", "\033[1;36m", "\033[1;33m"
_RESET = "\033[0m"
_FLAG = re.compile(r"(?<!\S)--?[a-z][\w-]*")


def can_be_drawn() -> bool:
    """Return whether this screen looks here as Typer's would."""
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower()
    plain = encoding in ("utf-8", "utf8") and not any(name in os.environ for name in _CHOICES)
    return plain and os.environ.get("TERM") != "dumb" and _width() >= _MIN_WIDTH


def help_screen() -> str:
    """Return the screen for this terminal, in colours if standard output is one."""
    width, coloured = _width(), sys.stdout.isatty()
    lines = ["", "Usage: flowherd [OPTIONS] COMMAND [ARGS]...", "", *textwrap.wrap(ABOUT, width - 2), ""]
    lines = [f" {line}".ljust(width) for line in lines]
    if coloured:
        lines[1] = lines[1].replace("Usage:", f"{_USAGE}Usage:{_RESET}")
    lines += _panel("Options", OPTIONS, width, coloured)
    lines += _panel("Commands", {name: line for name, (_, line) in COMMANDS.items()}, width, coloured)
    lines += [f" {line}".ljust(width) for line in ("", *textwrap.wrap(EPILOG, width - 2), "")]
    return "\n".join(lines)


def _panel(title: str, entries: Mapping[str, str], width: int, coloured: bool) -> list[str]:
    first = max(map(len, entries))
    room = width - first - 6
    lines = [f"╭─ {title} {'─' * (width - len(title) - 5)}╮"]
    for name, text in entries.items():
        wrapped = textwrap.wrap(text, room, break_on_hyphens=False)
        for number, line in enumerate(wrapped):
            lines.append(f"│ {'' if number else name:{first}}  {line:{room}} │")
    lines.append(f"╰{'─' * (width - 2)}╯")
    return [_coloured(line, first) for line in lines] if coloured else lines


def _coloured(line: str, first: int) -> str:
    if line[0] != "│":
        return f"{_DIM}{line}{_RESET}"
    name, text = line[2 : 2 + first], line[2 + first : -1]
    text = _FLAG.sub(lambda match: f"{_NAME}{match[0]}{_RESET}", text)
    return f"{_DIM}│{_RESET} {_NAME}{name}{_RESET}{text}{_DIM}│{_RESET}"


def _width() -> int:
    return shutil.get_terminal_size().columns
