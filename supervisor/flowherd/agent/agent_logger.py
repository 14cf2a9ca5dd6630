"""`Agent.logger`: a logger of the standard library, whose records are lines of the agent's own log too."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from loguru import logger

from flowherd.log_format import add_stack

if TYPE_CHECKING:
    from loguru import Record

#: Name of the field that marks a line of the agent's log as a record of a standard logger.
FROM_STANDARD_LOGGER = "from_standard_logger"
#: What every record has; anything else was given as `extra`.
_FIELDS_OF_ALL = frozenset({*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"})


def standard_logger(name: str, level: str) -> logging.Logger:
    """Return the standard logger of this name, with its level set and with a handler that writes to the agent's log.

    Code that has lowered its level since sees the records that this lets through, at any level of the agent's log.
    Calling this again for the same name does not add a handler.
    """
    found = logging.getLogger(name)
    found.setLevel(logger.level(level).no)
    if not any(isinstance(handler, AgentLogHandler) for handler in found.handlers):
        found.addHandler(AgentLogHandler(name))
    return found


class AgentLogHandler(logging.Handler):
    """Writes records to the agent's log, with their `extra` as fields. `agent` is the name of the agent."""

    def __init__(self, agent: str) -> None:
        super().__init__()
        self._agent = agent

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, unless it has come from the agent's log, or another agent's logger is nearer to it."""
        given = {name: value for name, value in record.__dict__.items() if name not in _FIELDS_OF_ALL}
        if _is_from_agent_log(given) or not self._is_nearest(record):
            return
        try:
            self._write(record, record.getMessage(), given)
        except Exception:  # as in every handler: an error in a log line is shown and nothing else
            self.handleError(record)

    def _write(self, record: logging.LogRecord, text: str, given: dict[str, Any]) -> None:
        def of_record(line: Record) -> None:
            line["name"], line["module"] = record.name, record.module
            line["function"], line["line"] = record.funcName or "", record.lineno
            if record.stack_info:
                add_stack(line, record.stack_info)

        has_exception = record.exc_info is not None and record.exc_info[0] is not None
        bound = logger.bind(**{**given, "agent": self._agent, FROM_STANDARD_LOGGER: True}).patch(of_record)
        bound.opt(exception=record.exc_info if has_exception else None).log(_level(record), text)

    def _is_nearest(self, record: logging.LogRecord) -> bool:
        """Return whether no logger between the record's own and this handler's passes it on as well."""
        above: logging.Logger | None = logging.getLogger(record.name)
        while above is not None:
            for handler in above.handlers:
                if isinstance(handler, AgentLogHandler):
                    return handler is self
            above = above.parent
        return True


def _level(record: logging.LogRecord) -> str | int:
    """Return the level by the name that loguru has for it, else as a number."""
    try:
        return logger.level(record.levelname).name
    except ValueError:
        return record.levelno


def _is_from_agent_log(given: dict[str, Any]) -> bool:
    # loguru's own handler for standard handlers gives a record the line's fields under this name. Without this check,
    # a program that sends loguru's lines to standard loggers would get each record again and again.
    extra = given.get("extra")
    return isinstance(extra, dict) and FROM_STANDARD_LOGGER in extra
