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
import threading
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from flowherd.agent.agent_logger import FROM_STANDARD_LOGGER
from flowherd.agent.journald import Journal
from flowherd.config.records import Logging
from flowherd.line_writer import STANDARD_ERROR, LineWriter
from flowherd.log_format import SHOWN, SHOWN_FIELDS, add_shown
from flowherd.shown_text import one_line

if TYPE_CHECKING:
    from loguru import Logger, Message, Record

_TEXT = "<green>{time:HH:mm:ss.SSS}</green> <level>{level: <7}</level> {extra[short]}" + SHOWN
_FILE_TEXT = "{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {level: <7} {extra[short]}" + SHOWN

#: Fields of a record that are no one's data.
_OWN_FIELDS = frozenset({"short", FROM_STANDARD_LOGGER, *SHOWN_FIELDS})


def configure(level: str, options: Logging) -> None:
    """Send the log to standard error, as text or as one JSON object per line, and to a rotating file if one is named.

    Or to systemd's journal instead of standard error, which then gets what the journal does not take. Raises OSError or
    ValueError when the file, its rotation or the journal cannot be used.
    """
    global _current
    logger.configure(handlers=[], extra={"short": ""}, patcher=_add_fields)
    copied = copy.deepcopy(logger)  # while `logger` has no sinks: they cannot be copied
    _current = log = _Log(level, options, copied, _LogFile(options, copied) if options.file else None)
    STANDARD_ERROR.note_in(_json_notice if options.json_lines else _text_notice)
    colours = sys.stderr.isatty() and not options.json_lines
    # Tracebacks with the values of variables could show secrets.
    sinks: Any = {"level": 0, "filter": log.lets_through, "backtrace": False, "diagnose": False}
    # Functions, because loguru would add the exception once more to a format that is a text.
    logger.add(log.write, format=log.format, colorize=colours, **sinks)
    if log.file is not None:
        logger.add(log.file, format=lambda _record: _FILE_TEXT, **sinks)


def configure_unless_done(level: str, options: Logging) -> None:
    """Configure the log, unless the program has already replaced loguru's default sink by its own."""
    try:
        logger.remove(0)  # the number of the default sink (loguru's documentation of `remove`)
    except ValueError:
        return
    configure(level, options)


def change(level: str, options: Logging) -> bool:
    """Change the log as `configure` would, without losing a line. Returns False if another program's log is used.

    Raises OSError or ValueError when the file or its rotation cannot be used; the log then stays as it was.
    """
    log = _current
    if log is None:
        return False
    if (options.file, options.rotation, options.retention) != log.file_options:
        former, file = log.file, _LogFile(options, log.copied) if options.file else None
        if former is not None and file is not None:
            former.write_to(file)
        elif former is not None:
            former.write_to(None)
        elif file is not None:
            sinks: Any = {"level": 0, "filter": log.lets_through, "backtrace": False, "diagnose": False}
            logger.add(file, format=lambda _record: _FILE_TEXT, **sinks)
            log.file = file
    log.use(level, options)
    STANDARD_ERROR.note_in(_json_notice if options.json_lines else _text_notice)
    return True


def reopen() -> list[str]:
    """Close the log file and open it by its name again, as logrotate needs it. Returns the names of such files."""
    log = _current
    if log is None or log.file is None or not log.file_options[0]:
        return []
    log.file.reopen()
    return [log.file_options[0]]


class _Log:
    """The log of this process as it is configured now."""

    def __init__(self, level: str, options: Logging, copied: Logger, file: _LogFile | None) -> None:
        #: A logger without sinks.
        self.copied = copied
        self.file = file
        self.use(level, options)

    def use(self, level: str, options: Logging) -> None:
        self._journal = Journal() if options.journald else None
        self._lowest = logger.level(level).no
        self._writes_json = options.json_lines
        self.file_options = (options.file, options.rotation, options.retention)

    def lets_through(self, record: Record) -> bool:
        """Let through lines of the level and above, and all that a standard logger has let through."""
        return record["level"].no >= self._lowest or FROM_STANDARD_LOGGER in record["extra"]

    def format(self, _record: Record) -> str:
        return "{message}" if self._writes_json else _TEXT

    def write(self, message: Message) -> None:
        if self._journal is not None and self._journal.send(message.record):
            return
        (_write_json if self._writes_json else STANDARD_ERROR.write_lines)(message)


#: The log that `configure` has made; None before, and for a program with a log of its own.
_current: _Log | None = None


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
    """A sink of loguru that queues lines for a rotating file. Raises OSError or ValueError, see `configure`.

    `copied` is a logger without sinks.
    """

    def __init__(self, options: Logging, copied: Logger) -> None:
        self._file = _RotatingFile(options, copied)
        self._writer: LineWriter | None = self._writer_of(self._file)

    def write(self, message: str) -> None:
        if self._writer is not None:
            self._writer.write(message)

    def reopen(self) -> None:
        """Write the next line to the file that has the name then."""
        self._file.reopen()

    def write_to(self, other: _LogFile | None) -> None:
        """Write to another file from now on, or to none."""
        former, file = self._writer, self._file
        if other is None:
            self._writer = None
        else:
            self._writer, self._file = other._writer, other._file
        if former is not None:
            former.flush()
            file.reopen()  # closes it

    def stop(self) -> None:
        """Called by loguru when the sink is removed."""
        if self._writer is not None:
            self._writer.flush()

    @staticmethod
    def _writer_of(file: _RotatingFile) -> LineWriter:
        writer = LineWriter(file, ("log line", "log lines"))
        writer.format_notice = _file_notice
        return writer


class _RotatingFile:
    """Writes to a file that loguru rotates, by a logger of its own that passes texts on as they are."""

    def __init__(self, options: Logging, copied: Logger) -> None:
        self._options = options
        # loguru's way to independent loggers ("Creating independent loggers with separate set of handlers").
        self._logger = copy.deepcopy(copied)
        self._is_open = False
        self._torn = False
        #: Held while the file is opened, closed or written: `reopen` is called from another thread than `write`.
        self._lock = threading.Lock()
        self._open()

    def reopen(self) -> None:
        """Close the file. The next line opens it by its name again."""
        with self._lock:
            self._is_open = False
            with contextlib.suppress(OSError, ValueError):
                self._logger.remove()

    def write(self, data: bytes) -> int:
        """Write all of `data`. Raises OSError or ValueError; lines that were written in part are ended then."""
        with self._lock:
            self._write(data.decode("utf-8", "replace"))
        return len(data)

    def _write(self, text: str) -> None:
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
