"""What Prefect's engine starts beside a flow: the run's heartbeats, and a look-out for its suspension.

Each opens a connection of its own before the flow's first line, and takes up to a second to end. Here they begin once
the flow has run for a moment, and nobody waits for their end: the process's end is theirs. A short run does without.
"""

import contextvars
import functools
import importlib
import threading
from contextlib import contextmanager
from typing import Any, Callable, ContextManager, Iterator

#: The engine's names for them, context managers around the flow.
_COMPANIONS = ("_send_heartbeats", "observe_flow_run_suspension")
#: What can wait begins when the flow has run for so long.
AFTER_S = 1.0


def begin_later() -> None:
    """Let the engine start them later."""
    engine: Any = importlib.import_module("prefect.flow_engine")
    for name in _COMPANIONS:
        if hasattr(engine, name):  # of this version of Prefect
            setattr(engine, name, later(getattr(engine, name)))


def later(companion: Callable[..., ContextManager[Any]]) -> Callable[..., ContextManager[None]]:
    """`companion` entered in a thread of its own, unless what it accompanies is over by then."""

    @functools.wraps(companion)
    @contextmanager
    def entered_later(*args: Any, **kwargs: Any) -> Iterator[None]:
        over = threading.Event()

        def accompany() -> None:
            if not over.wait(AFTER_S):
                with companion(*args, **kwargs):
                    over.wait()

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(accompany,), daemon=True).start()
        try:
            yield
        finally:
            over.set()

    return entered_later
