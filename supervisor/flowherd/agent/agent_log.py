"""Configures the agent's own log. Called by the program that runs the agent, never at import.

Lines about a run are bound to its id (`logger.bind(run_id=...)`), which text shows shortened and JSON in full.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from loguru import logger

from flowherd.config.settings import Logging

if TYPE_CHECKING:
    from loguru import Message, Record

_TEXT = "<green>{time:HH:mm:ss.SSS}</green> <level>{level: <7}</level> {extra[short]}{message}"
_FILE_TEXT = "{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {level: <7} {extra[short]}{message}"


def configure(level: str, options: Logging) -> None:
    """Send the log to standard error, as text or as one JSON object per line, and to a rotating file if one is named.

    Raises OSError or ValueError when the file or its rotation cannot be used.
    """
    logger.configure(handlers=[], extra={"short": ""}, patcher=_shorten)
    write = _write_json if options.json_lines else _write_text
    text = "{message}" if options.json_lines else _TEXT
    colours = sys.stderr.isatty() and not options.json_lines
    logger.add(write, level=level, format=text, colorize=colours, backtrace=False, diagnose=False)
    if options.file:
        logger.add(
            options.file,
            level=level,
            format=_FILE_TEXT,
            rotation=options.rotation,
            retention=options.retention,
            backtrace=False,
            # Tracebacks with the values of variables could show secrets.
            diagnose=False,
        )


def configure_unless_done(level: str, options: Logging) -> None:
    """Configure the log, unless the program has already replaced loguru's default sink by its own."""
    try:
        logger.remove(0)  # the number of the default sink (loguru's documentation of `remove`)
    except ValueError:
        return
    configure(level, options)


def _shorten(record: Record) -> None:
    extra = record["extra"]
    run_id = extra.get("run_id")
    extra["short"] = f"[{extra.get('run', '')} {run_id[:8]}] " if run_id else ""


def _write_text(message: Message) -> None:
    # Looked up for each line, because a program may replace sys.stderr.
    sys.stderr.write(message)


def _write_json(message: Message) -> None:
    record = message.record
    extra = {name: value for name, value in record["extra"].items() if name not in ("short", "agent_log")}
    exception = record["exception"]
    line = {
        "timestamp": record["time"].isoformat(),
        "level": record["level"].name,
        "message": record["message"],
        **extra,
        **({"exception": repr(exception.value)} if exception else {}),
    }
    sys.stderr.write(json.dumps(line, default=str) + "\n")
