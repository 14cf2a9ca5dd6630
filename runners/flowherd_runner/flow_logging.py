"""Sends the logging records of a run to its runner until the run configures logging itself.

A script that configures nothing prints its warnings to standard error: `logging.lastResort` does that for loggers
without handlers. In a run the last resort is the runner, which keeps the level and takes records from INFO on. Nothing
else is different for the user's code: the root logger has no handlers and its usual level, so `logging.basicConfig`,
`dictConfig` and handlers of one's own do what they do in a script, and what they print is output like any other. So
each message is once in the log.
"""

import logging
import sys
from typing import Any, Optional

from flowherd_runner.record_sender import RecordSender

#: The lowest level of records that are kept while neither the run nor its flow's options have set one.
_DEFAULT_LEVEL = logging.INFO


class RecordHandler(logging.Handler):
    """Sends every logging record that it gets to the runner."""

    def __init__(self, sender: RecordSender, level: int) -> None:
        super().__init__(level)
        self._sender = sender
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Send `record`: its message, followed by its traceback and stack."""
        try:
            self._sender.record(record.levelno, record.name, self.format(record))
        except RecursionError:
            raise
        except Exception:  # as logging does: handleError gets a record that cannot be formatted
            self.handleError(record)


def install(sender: RecordSender, level: Optional[int]) -> None:
    """Send records that no handler of the run takes to the runner.

    `level` is what the flow's options give to the root logger, as if its code began with that; None for nothing.
    """
    handler = RecordHandler(sender, _DEFAULT_LEVEL if level is None else level)
    logging.lastResort = handler
    _replace_implicit_configuration(handler)
    if level is None:
        _enable_below_warning(handler)
    else:
        logging.getLogger().setLevel(level)


def _replace_implicit_configuration(handler: RecordHandler) -> None:
    """Have logging.info and its siblings, which configure logging at their first call, use `handler` for that."""
    configure: Any = logging.basicConfig
    root = logging.getLogger()

    def basicConfig(**options: Any) -> None:  # noqa: N802 - logging's name
        implicit = not options and sys._getframe(1).f_globals is vars(logging)
        configure(**(dict(options, handlers=[handler]) if implicit and not root.handlers else options))

    basicConfig.__doc__ = configure.__doc__
    logging.basicConfig = basicConfig


def _enable_below_warning(handler: RecordHandler) -> None:
    """Let records that the level of an untouched root logger would stop reach `handler`."""
    root = logging.getLogger()
    level_at_start = root.level
    is_enabled: Any = logging.Logger.isEnabledFor

    def reaches_handler(logger: Optional[logging.Logger]) -> bool:
        """Whether neither `logger` nor one above it has a level or handler of the run."""
        while logger is not None and logger is not root:
            if logger.level or logger.handlers:
                return False
            logger = logger.parent
        return root.level == level_at_start and all(one is handler for one in root.handlers)

    def isEnabledFor(self: logging.Logger, level: int) -> bool:  # noqa: N802 - logging's name
        if is_enabled(self, level):
            return True
        wanted = handler.level <= level > self.manager.disable
        return wanted and not self.disabled and reaches_handler(self)

    logging.Logger.isEnabledFor = isEnabledFor  # type: ignore[method-assign]
