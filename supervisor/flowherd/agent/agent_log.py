"""Configures the agent's own log. Called by the program that runs the agent, never at import.

Lines about a run are bound to its id (`logger.bind(run_id=...)`), which text shows shortened and JSON in full. Logging
never waits: all lines pass through queues with a writing thread each (line_writer.py).
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from flowherd.agent.agent_logger import FROM_STANDARD_LOGGER
from flowherd.config.records import Logging
from flowherd.line_writer import STANDARD_ERROR, LineWriter
from flowherd.log_format import SHOWN, SHOWN_FIELDS, add_shown
from flowherd.shown_text import one_line

if TYPE_CHECKING:
    from loguru import Message, Record

_TEXT = "<green>{time:HH:mm:ss.SSS}</green> <level>{level: <7}</level> {extra[short]}" + SHOWN
_FILE_TEXT = "{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {level: <7} {extra[short]}" + SHOWN

#: Fields of a record that are no one's data.
_OWN_FIELDS = frozenset({"short", FROM_STANDARD_LOGGER, *SHOWN_FIELDS})


def configure(level: str, options: Logging) -> None:
    """Send the log to standard error, as text or as one JSON object per line, and to a rotating file if one is named.

    Raises OSError or ValueError when the file or its rotation cannot be used.
    """
    logger.configure(handlers=[], extra={"short": ""}, patcher=_add_fields)
    file = _LogFile(options) if options.file else None  # while `logger` has no sinks: they cannot be copied
    write = _write_json if options.json_lines else STANDARD_ERROR.write_lines
    STANDARD_ERROR.note_in(_json_notice if options.json_lines else _text_notice)
    text = "{message}" if options.json_lines else _TEXT
    colours = sys.stderr.isatty() and not options.json_lines
    # Tracebacks with the values of variables could show secrets.
    sinks: Any = {"level": 0, "filter": _from_level(level), "backtrace": False, "diagnose": False}
    # Functions, because loguru would add the exception once more to a format that is a text.
    logger.add(write, format=lambda _record: text, colorize=colours, **sinks)
    if file is not None:
        logger.add(file, format=lambda _record: _FILE_TEXT, **sinks)


def configure_unless_done(level: str, options: Logging) -> None:
    """Configure the log, unless the program has already replaced loguru's default sink by its own."""
    try:
        logger.remove(0)  # the number of the default sink (loguru's documentation of `remove`)
    except ValueError:
        return
    configure(level, options)


def _from_level(level: str) -> Callable[[Record], bool]:
    """Return a filter for lines of this level and above, and for all that a standard logger has let through."""
    lowest = logger.level(level).no
    return lambda record: record["level"].no >= lowest or FROM_STANDARD_LOGGER in record["extra"]


def _add_fields(record: Record) -> None:
    extra = record["extra"]
    run_id = extra.get("run_id")
    extra["short"] = one_line(f"[{extra.get('run', '')} {str(run_id)[:8]}] ") if run_id else ""
    add_shown(record)


def flush() -> None:
    """Wait a moment for the last lines, but not for a reader that takes none."""
    STANDARD_ERROR.flush()


def close() -> None:
    """Stop logging, and wait a moment for the last lines: before this process becomes another program."""
    logger.remove()
    flush()


def _write_json(message: Message) -> None:
    record = message.record
    extra = {name: value for name, value in record["extra"].items() if name not in _OWN_FIELDS}
    exception = record["exception"]
    more = {**extra, **({"exception": repr(exception.value)} if exception else {})}
    STANDARD_ERROR.write_lines(_json_line(record["time"], record["level"].name, record["message"], more))


def _json_line(at: datetime, level: str, text: str, more: dict[str, Any]) -> str:
    line = {"timestamp": at.isoformat(), "level": level, "message": text, **more}
    return json.dumps(line, default=str) + "\n"


def _json_notice(text: str) -> str:
    return _json_line(datetime.now().astimezone(), "WARNING", text, {})


def _text_notice(text: str) -> str:
    return f"{datetime.now():%H:%M:%S.%f}"[:-3] + f" WARNING {text}\n"


def _file_notice(text: str) -> str:
    return f"{datetime.now().astimezone().isoformat(timespec='milliseconds')} WARNING {text}\n"


class _LogFile:
    """A sink of loguru that queues lines for a rotating file. Raises OSError or ValueError, see `configure`."""

    def __init__(self, options: Logging) -> None:
        self._writer = LineWriter(_RotatingFile(options), ("log line", "log lines"))
        self._writer.format_notice = _file_notice

    def write(self, message: str) -> None:
        self._writer.write(message)

    def stop(self) -> None:
        """Called by loguru when the sink is removed."""
        self._writer.flush()


class _RotatingFile:
    """Writes to a file that loguru rotates, by a logger of its own that passes texts on as they are."""

    def __init__(self, options: Logging) -> None:
        self._options = options
        # loguru's way to independent loggers ("Creating independent loggers with separate set of handlers").
        self._logger = copy.deepcopy(logger)
        self._is_open = False
        self._torn = False
        self._open()

    def write(self, data: bytes) -> int:
        """Write all of `data`. Raises OSError or ValueError; lines that were written in part are ended then."""
        text = data.decode("utf-8", "replace")
        try:
            if not self._is_open:
                self._open()
            self._logger.opt(raw=True).info(f"\n{text}" if self._torn else text)
        except (OSError, ValueError):
            self._is_open = False
            self._torn = True
            with contextlib.suppress(OSError, ValueError):
                # Now: what is left in the file's buffer would otherwise come again before the next line.
                self._logger.remove()
            raise
        self._torn = False
        return len(data)

    def _open(self) -> None:
        options = self._options
        self._logger.add(
            options.file,
            format="{message}",
            rotation=options.rotation,
            retention=options.retention,
            catch=False,
            opener=_not_for_others_to_write,
        )
        self._is_open = True
        self._torn = self._torn and _ends_within_line(Path(options.file))


def _not_for_others_to_write(path: str, flags: int) -> int:
    """Open a file as open(2) does, but let nobody else write to it, whatever the umask is."""
    return os.open(path, flags, 0o644)


def _ends_within_line(path: Path) -> bool:
    """Return whether the file ends without a line break."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 1))
        return size > 0 and file.read(1) != b"\n"
    return False  # its name contains the time (loguru), or it cannot be read
