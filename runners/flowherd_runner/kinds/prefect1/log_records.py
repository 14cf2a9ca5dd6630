"""Redirects Prefect's logging in a run: what its handler would send to the backend goes to the runner instead.

The handler class itself gets another `emit`, so that every logger with one of its instances, now or later, the user's
own loggers included, logs through the journal. Levels and texts are Prefect's own, in older and newer versions.
"""

import importlib
import json
import logging
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

#: Puts a record into the journal: level, logger, text, task run, the flow run of a subflow, which 0.x and 1.x do not
#: have, and what else Prefect sends with it.
Send = Callable[[int, str, str, Optional[str], Optional[str], Optional[Dict[str, Any]]], None]
#: Text of a record, and what else Prefect sends with it.
_Content = Tuple[str, Optional[Dict[str, Any]]]
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
    content: Callable[[Any, logging.LogRecord], _Content]
    content = _newer_content if hasattr(module, "LOG_MANAGER") else _OlderContent(context)

    def emit(self: logging.Handler, record: logging.LogRecord) -> None:
        if hasattr(record, _SENT):
            return
        try:
            if hasattr(module, "LOG_MANAGER") and record.levelno < _configured_level(context):
                return
            setattr(record, _SENT, True)
            text, info = content(self, record)
            send(record.levelno, record.name, text, context.get("task_run_id"), None, info)
        except RecursionError:
            raise
        except Exception:  # as logging does: handleError gets a record that cannot be formatted
            self.handleError(record)

    handler.emit = emit


def _configured_level(context: Any) -> int:
    level = getattr(logging, str(context.config.logging.level), logging.INFO)
    return level if isinstance(level, int) else logging.INFO


def _newer_content(handler: logging.Handler, record: logging.LogRecord) -> _Content:
    return handler.format(record), None


class _OlderContent:
    """What Prefect 0.13 sends: message and exception in lines of their own, and all other fields as `info`.

    The fields are those that a record has after Prefect's stream handler, which comes first, has formatted it. Values
    that JSON does not have are sent as Python shows them; Prefect loses such a record.
    """

    #: Fields that become a part of the line itself, and the arguments, which Prefect leaves out.
    _ELSEWHERE = frozenset({"args", "created", "levelname", "message", "name", _SENT})

    def __init__(self, context: Any) -> None:
        self._formatter = logging.Formatter(context.config.logging.format, context.config.logging.datefmt)
        self._formatter.converter = time.gmtime

    def __call__(self, _: Any, record: logging.LogRecord) -> _Content:
        self._formatter.format(record)
        elsewhere = {*self._ELSEWHERE, "exc_text", "exc_info"} if record.exc_text is not None else self._ELSEWHERE
        info = {str(name): value for name, value in vars(record).items() if name not in elsewhere}
        text = record.getMessage() if record.exc_text is None else record.getMessage() + "\n" + record.exc_text
        return text, _of_json(info)


def _of_json(info: Dict[str, Any]) -> Dict[str, Any]:
    """Return the fields in JSON's types."""
    found = {}
    for name, value in info.items():
        try:
            # "NaN" and "Infinity" are no JSON, although the module writes and reads them.
            found[name] = json.loads(json.dumps(value, default=repr, skipkeys=True), parse_constant=str)
        except Exception:  # a circular value, or the user's __repr__
            found[name] = "<{} that cannot be shown>".format(type(value).__name__)
    return found
