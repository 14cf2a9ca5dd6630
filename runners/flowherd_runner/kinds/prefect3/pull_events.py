"""Defers the events of pull steps, which Prefect sends before a flow begins, over a new connection for each.

Here they are sent together, while the flow runs or once it has ended. They are information for people, so nothing fails
when they cannot be sent.
"""

import contextlib
import importlib
import threading
from typing import Any, Dict, Iterator, List, Optional

from flowherd_runner.kinds.prefect3 import prefect_compat
from flowherd_runner.kinds.prefect3.deferred_services import DELAY_S

_STEPS = "prefect.deployments.steps.core"
_END_TIMEOUT_S = 5.0


class PullEvents:
    """The events of one run."""

    def __init__(self) -> None:
        self._events: List[Dict[str, Any]] = []
        self._ended = threading.Event()
        self._thread: Optional[threading.Thread] = None

    @contextlib.contextmanager
    def gathering(self) -> Iterator[None]:
        """Gather the events of the pull steps in the block, and send them a little later in another thread."""
        steps: Any = importlib.import_module(_STEPS)
        client = getattr(steps, "get_events_client", None)
        if client is None:  # a Prefect without such events, or that sends them in another way
            yield
            return
        steps.get_events_client = lambda **_: self._gatherer()
        try:
            yield
        finally:
            steps.get_events_client = client
            if self._events:
                self._thread = threading.Thread(target=self._send, daemon=True)
                self._thread.start()

    def finish(self) -> None:
        """Send the events now, and wait a while for that."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_END_TIMEOUT_S)

    def _gatherer(self) -> Any:
        clients: Any = importlib.import_module("prefect.events.clients")

        class Gatherer(clients.EventsClient):  # type: ignore[misc]
            async def _emit(_, event: Any) -> None:
                self._events.append(event.model_dump(mode="json"))

        return Gatherer()

    def _send(self) -> None:
        self._ended.wait(DELAY_S)
        with contextlib.suppress(Exception):  # Prefect ignores this too
            with prefect_compat.sync_client() as client:
                client.request("POST", "/events", json=self._events)
