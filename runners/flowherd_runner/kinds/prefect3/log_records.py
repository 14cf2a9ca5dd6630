"""Redirects Prefect 3's logging in a run: what its handler would send to the API goes to the runner instead.

So records survive an API that does not answer, and a run that is killed. Prefect still decides which record is sent, at
which level, and to which task run and flow run it belongs: a subflow has a flow run of its own. Records of a task
without any flow run go the way that Prefect has for them.
"""

import importlib
import logging
from typing import Any, Callable, Dict, Optional

from flowherd_runner.kinds.prefect3 import prefect_compat

#: Puts a record into the journal: level, logger, text, task run, and the flow run if it is a subflow's.
Send = Callable[[int, str, str, Optional[str], Optional[str]], None]
#: Attribute that marks a record as sent, so that it is not printed into the same log too.
_SENT = "_flowherd_sent"


def redirect(send: Send, flow_run_id: str) -> None:
    """Send what is logged for this flow run to `send`, and not to the console as well."""
    handlers: Any = importlib.import_module("prefect.logging.handlers")
    _mark_sent(handlers.APILogHandler)
    _print_others_only(handlers.PrefectConsoleHandler)

    def take(log: Dict[str, Any], send_on: Callable[[Dict[str, Any]], None]) -> None:
        owner, task_run_id = _text(log.get("flow_run_id")), _text(log.get("task_run_id"))
        if owner is None:
            send_on(log)
        else:
            subflow = None if owner == flow_run_id else owner
            send(log["level"], log["name"], log["message"], task_run_id, subflow)

    prefect_compat.divert_api_logs(take)


def _text(identity: Any) -> Optional[str]:
    return None if identity is None else str(identity)


def _mark_sent(handler: Any) -> None:
    prepare = handler.prepare

    def marking(self: logging.Handler, record: logging.LogRecord) -> Any:
        prepared = prepare(self, record)
        setattr(record, _SENT, True)
        return prepared

    handler.prepare = marking


def _print_others_only(handler: Any) -> None:
    emit = handler.emit

    def emit_others(self: logging.Handler, record: logging.LogRecord) -> None:
        if not hasattr(record, _SENT):
            emit(self, record)

    handler.emit = emit_others
