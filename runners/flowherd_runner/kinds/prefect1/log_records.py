"""Redirects Prefect's logging in a run: what its handler would send to the backend goes to the runner instead.

The handler class itself gets another `emit`, so that every logger with one of its instances, now or later, the user's
own loggers included, logs through the journal. Levels and texts are Prefect's own, in older and newer versions.
"""

import importlib
import logging
from typing import Any, Callable, List, Optional

#: Puts a record into the journal: level, logger, text, task run.
Send = Callable[[int, str, str, Optional[str]], None]
#: Attribute that marks a record as sent, because more than one of its loggers may have a handler.
_SENT = "_flowherd_sent"


def redirect(send: Send) -> None:
    """Send Prefect's records to `send` only, at the levels of the present configuration.

    Loggers that were set up with an earlier configuration are reset.
    """
    module: Any = importlib.import_module("prefect.utilities.logging")
    _replace_handler(module, send)
    for logger in _set_up_loggers(module):
        logger.handlers = [one for one in logger.handlers if not _is_prefects(module, one)]
        logger.setLevel(logging.NOTSET)
    logging.getLogger("CloudHandler").handlers = []  # older versions log there what they could not send
    module.configure_logging()
    module.configure_extra_loggers()
    for logger in _set_up_loggers(module):
        # Prefect also prints what it sends; here that is in the run's log already.
        logger.handlers = [one for one in logger.handlers if type(one) is not logging.StreamHandler]
    _renew_diagnostics(module)


def _set_up_loggers(module: Any) -> List[logging.Logger]:
    known = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    loggers = [one for one in known if isinstance(one, logging.Logger)]
    return [one for one in loggers if any(isinstance(handler, module.CloudHandler) for handler in one.handlers)]


def _is_prefects(module: Any, handler: logging.Handler) -> bool:
    return isinstance(handler, module.CloudHandler) or type(handler) is logging.StreamHandler


def _renew_diagnostics(module: Any) -> None:
    """Set up the client's logger again, as newer versions do at import; it prints if the configuration says so."""
    logger = logging.Logger.manager.loggerDict.get("client.diagnostics")
    if isinstance(logger, logging.Logger):
        logger.handlers = []
        module.create_diagnostic_logger(logger.name)


def _replace_handler(module: Any, send: Send) -> None:
    handler: Any = module.CloudHandler
    context: Any = module.context
    text = _newer_text if hasattr(module, "LOG_MANAGER") else _older_text

    def emit(self: logging.Handler, record: logging.LogRecord) -> None:
        if hasattr(record, _SENT):
            return
        try:
            if hasattr(module, "LOG_MANAGER") and record.levelno < _configured_level(context):
                return
            setattr(record, _SENT, True)
            send(record.levelno, record.name, text(self, record), context.get("task_run_id"))
        except RecursionError:
            raise
        except Exception:  # as logging does: handleError gets a record that cannot be formatted
            self.handleError(record)

    handler.emit = emit


def _configured_level(context: Any) -> int:
    level = getattr(logging, str(context.config.logging.level), logging.INFO)
    return level if isinstance(level, int) else logging.INFO


def _newer_text(handler: logging.Handler, record: logging.LogRecord) -> str:
    return handler.format(record)


def _older_text(handler: logging.Handler, record: logging.LogRecord) -> str:
    """Return the message and, on lines of their own, the exception; older versions leave the stack out."""
    text = record.getMessage()
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    return text if record.exc_text is None else text + "\n" + record.exc_text
