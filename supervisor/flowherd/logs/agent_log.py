"""The sinks of the agent's own log. Called by the program that is the agent, never at import.

Lines about a run are bound to its id (`logger.bind(run_id=...)`), which the text shows and the JSON carries.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, TextIO

from loguru import logger

from flowherd.config.settings import Logging

if TYPE_CHECKING:
    from loguru import Message, Record

_TEXT = "<green>{time:HH:mm:ss.SSS}</green> <level>{level: <7}</level> {extra[short]}{message}"
_FILE_TEXT = "{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {level: <7} {extra[short]}{message}"


def configure(level: str, options: Logging, out: TextIO = sys.stderr) -> None:
    """Send the log to `out`, as text or one JSON object a line, and to a rotating file when one is named."""
    logger.configure(handlers=[], extra={"short": ""}, patcher=_shorten)
    if options.json_lines:
        logger.add(lambda message: _write_json(message, out), level=level, format="{message}")
    else:
        logger.add(out, level=level, format=_TEXT, backtrace=False, diagnose=False)
    if options.file:
        logger.add(
            options.file,
            level=level,
            format=_FILE_TEXT,
            rotation=options.rotation,
            retention=options.retention,
            backtrace=False,
            # Values of variables in tracebacks can be secrets.
            diagnose=False,
        )


def _shorten(record: Record) -> None:
    extra = record["extra"]
    run_id = extra.get("run_id")
    extra["short"] = f"[{extra.get('run', '')} {run_id[:8]}] " if run_id else ""


def _write_json(message: Message, out: TextIO) -> None:
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
    out.write(json.dumps(line, default=str) + "\n")
    out.flush()
