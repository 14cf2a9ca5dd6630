"""Events of pull steps, which Prefect tells before a flow begins, over a connection made for each.

Here they are told while the flow runs, or once it has ended, all at once. They are for people: that they cannot be told
fails nothing.
"""

import contextlib
import importlib
import threading
from typing import Any, Dict, Iterator, List, Optional

from flowherd_runner.kinds.prefect3 import prefect_compat
from flowherd_runner.kinds.prefect3.deferred_services import AFTER_S

_STEPS = "prefect.deployments.steps.core"
_END_TIMEOUT_S = 5.0


class PullEvents:
    """The events of one run."""

    def __init__(self) -> None:
        self._events: List[Dict[str, Any]] = []
        self._over = threading.Event()
        self._thread: Optional[threading.Thread] = None

    @contextlib.contextmanager
    def gathering(self) -> Iterator[None]:
        """Gather what the pull steps of the block tell, and tell it soon after; nobody waits for that."""
        steps: Any = importlib.import_module(_STEPS)
        client = getattr(steps, "get_events_client", None)
        if client is None:  # a Prefect without such events, or with another way for them
            yield
            return
        steps.get_events_client = lambda **_: self._gatherer()
        try:
            yield
        finally:
            steps.get_events_client = client
            if self._events:
                self._thread = threading.Thread(target=self._tell, daemon=True)
                self._thread.start()

    def finish(self) -> None:
        """Tell them now, and wait for that for a while."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(_END_TIMEOUT_S)

    def _gatherer(self) -> Any:
        clients: Any = importlib.import_module("prefect.events.clients")

        class Gatherer(clients.EventsClient):  # type: ignore[misc]
            async def _emit(_, event: Any) -> None:
                self._events.append(event.model_dump(mode="json"))

        return Gatherer()

    def _tell(self) -> None:
        self._over.wait(AFTER_S)
        with contextlib.suppress(Exception):  # as Prefect itself has it
            with prefect_compat.sync_client() as client:
                client.request("POST", "/events", json=self._events)
