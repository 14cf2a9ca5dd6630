"""Defers the services that Prefect's engine starts beside a flow: the run's heartbeats, and the watch for a suspension.

Each opens a connection of its own before the flow's first line, and takes up to a second to end. Here they begin after
the flow has run for a moment, and end with the process, without anything waiting for that. A short run has none.
"""

import contextvars
import functools
import importlib
import threading
from contextlib import contextmanager
from typing import Any, Callable, ContextManager, Iterator

#: Their names in the engine: context managers around the flow.
_SERVICES = ("_send_heartbeats", "observe_flow_run_suspension")
#: How long the flow runs before they begin, seconds.
DELAY_S = 1.0


def defer() -> None:
    """Make the engine start them later."""
    engine: Any = importlib.import_module("prefect.flow_engine")
    for name in _SERVICES:
        if hasattr(engine, name):  # in this version of Prefect
            setattr(engine, name, later(getattr(engine, name)))


def later(service: Callable[..., ContextManager[Any]]) -> Callable[..., ContextManager[None]]:
    """Return `service`, entered in a thread of its own and later, unless the flow has ended by then."""

    @functools.wraps(service)
    @contextmanager
    def entered_later(*args: Any, **kwargs: Any) -> Iterator[None]:
        ended = threading.Event()

        def serve() -> None:
            if not ended.wait(DELAY_S):
                with service(*args, **kwargs):
                    ended.wait()

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(serve,), daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    return entered_later
