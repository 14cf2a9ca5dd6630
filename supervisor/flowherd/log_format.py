"""The part of a loguru format that agent and server share: message and traceback, which can hold texts of others."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from flowherd.shown_text import lines, one_line

if TYPE_CHECKING:
    from loguru import Record

#: End of a format, for records that `add_shown` has patched.
SHOWN = "{extra[shown]}\n{extra[trace]}"
#: Fields that `add_shown` adds.
SHOWN_FIELDS = frozenset({"shown", "trace"})


def add_shown(record: Record) -> None:
    """Add to the record what a text shows of its message and exception. A patcher for loguru."""
    exception = record["exception"]
    parts = [] if exception is None else traceback.format_exception(*exception)
    record["extra"].update(shown=one_line(record["message"]), trace="".join(map(_part, parts)))


def _part(text: str) -> str:
    """Return a part of a traceback; further lines of an exception's message are indented, as those of a frame are."""
    is_message = not text.startswith((" ", "\n"))
    return lines(text[:-1].replace("\n", "\n    ") + text[-1:] if is_message else text)


def add_stack(record: Record, stack: str) -> None:
    """Add the stack of the call that logged; `add_shown` has patched the record, unless the program has own sinks."""
    record["message"] = f"{record['message']}\n{stack}"
    trace = record["extra"].get("trace", "")
    record["extra"]["trace"] = f"{lines(stack)}\n{trace}"
