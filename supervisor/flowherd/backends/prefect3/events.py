"""Listen to the server's events, so that new work and cancelled runs are looked for at once.

An event only wakes the agent; what there is to do is always requested. So nothing depends on this stream: if it breaks
or is not available, runs are found by polling.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import Any

from requests.structures import CaseInsensitiveDict
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from flowherd import __version__
from flowherd.backends import json_values
from flowherd.backends.http import TEMPORARY_STATUSES, retry_after_s
from flowherd.backends.prefect3.state_types import CANCELLED, CANCELLING, SCHEDULED, TERMINAL
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.config.urls import without_user
from flowherd.errors import BackendUnavailable
from flowherd.values import Wake

#: Time-out for the connection and for the answer to the credentials, seconds.
_TIMEOUT_S = 10.0
#: Longest wait for a message before the clock is checked, seconds: a known run that becomes due wakes too.
_MAX_WAIT_S = 1.0
_MAX_MESSAGE_BYTES = 4 * 1024 * 1024
#: How far in the future the filter ends, days: the server requires an end.
_FILTER_DAYS = 365


class WakeEvents:
    """Counts the reasons to wake the agent.

    `pool_id` returns the id of the pool whose runs' events to listen to; `limited` returns whether the pool has a
    concurrency limit, so that a run which ends may let another one start.
    """

    def __init__(self, transport: Prefect3Transport, pool_id: Callable[[], str], limited: Callable[[], bool]) -> None:
        self._transport = transport
        self._pool_id = pool_id
        self._limited = limited
        self._sequence = 0
        #: Whether the events since the last wake were about work, and about runs to end.
        self._work = self._ends = False
        #: Time at which a known run becomes due (monotonic); None if there is none.
        self._due_s: float | None = None
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._connection: Connection | None = None
        #: Id of the pool whose events the connection carries; a pool that is created again has another id.
        self._listens_to = ""

    def expect(self, in_s: float | None) -> None:
        """Wake when a known run becomes due, in this many seconds; None if no such run is known."""
        self._due_s = None if in_s is None else time.monotonic() + in_s

    def wait(self, seen: int, timeout_s: float) -> Wake:
        """Return once the count differs from `seen`, or after `timeout_s`; by one thread at a time.

        Raises BackendUnavailable if the stream breaks or is not available.
        """
        deadline_s = time.monotonic() + timeout_s
        try:
            connection = self._connected()
            while self._sequence == seen and not self._is_over(deadline_s):
                self._receive(connection, deadline_s)
        except (WebSocketException, OSError, ValueError, TypeError, KeyError) as error:
            self.close()
            raise BackendUnavailable(
                f"no events from {without_user(self._transport.address)}: {error!r:.200}",
                retry_after_s=_requested_pause_s(error),
            ) from error
        wake = Wake(sequence=self._sequence, work=self._work, ends=self._ends)
        self._work = self._ends = False
        return wake

    def close(self) -> None:
        """Close the connection; a wait in progress in another thread fails."""
        with self._lock:
            self._connection = None
            stack, self._stack = self._stack, ExitStack()
        stack.close()

    def _is_over(self, deadline_s: float) -> bool:
        """Whether the wait has timed out; counts a known run that has become due."""
        now_s = time.monotonic()
        if self._due_s is not None and now_s >= self._due_s:
            self._due_s = None
            self._sequence += 1
            self._work = True
        return now_s >= deadline_s

    def _receive(self, connection: Connection, deadline_s: float) -> None:
        """Wait for messages until the deadline, a known run's start or _MAX_WAIT_S, and count them as one wake."""
        until_s = min(deadline_s, self._due_s if self._due_s is not None else deadline_s)
        timeout_s = min(max(until_s - time.monotonic(), 0.0), _MAX_WAIT_S)
        try:
            while True:  # after the first message, all others that have arrived
                self._note(connection.recv(timeout=timeout_s))
                timeout_s = 0.0
        except TimeoutError:
            pass
        if self._work or self._ends:
            self._sequence += 1

    def _note(self, message: str | bytes) -> None:
        event = json_values.mapping(json_values.mapping(json.loads(message)).get("event") or {})
        state_type = json_values.mapping(event.get("resource") or {}).get("prefect.state-type")
        self._work |= state_type == SCHEDULED or (state_type in TERMINAL and self._limited())
        self._ends |= state_type in (CANCELLING, CANCELLED)

    def _connected(self) -> Connection:
        """Return a connection that carries the events of the pool as it is now."""
        pool_id = self._pool_id()
        if self._connection is not None and self._listens_to == pool_id:
            return self._connection
        self.close()
        address, route = self._transport.address, self._transport.route
        with ExitStack() as stack:
            connection: Connection = stack.enter_context(
                connect(
                    "ws" + address.removeprefix("http") + "/events/out",
                    subprotocols=["prefect"],  # type: ignore[list-item]
                    open_timeout=_TIMEOUT_S,
                    close_timeout=1.0,
                    max_size=_MAX_MESSAGE_BYTES,
                    proxy=route.proxy_url(address),
                    compression=None,
                    ssl=route.tls_context() if address.startswith("https:") else None,
                    additional_headers=dict(route.headers),
                    user_agent_header=f"flowherd/{__version__}",
                )
            )
            self._subscribe(connection, pool_id)
            with self._lock:
                self._connection, self._listens_to, self._stack = connection, pool_id, stack.pop_all()
        self._sequence += 1  # for events that came while there was no connection
        self._work = self._ends = True
        return connection

    def _subscribe(self, connection: Connection, pool_id: str) -> None:
        """Send credentials and filter. Raises ValueError if the credentials are not accepted."""
        token = self._transport.auth_string or self._transport.api_key or None
        connection.send(json.dumps({"type": "auth", "token": token}))
        answer = json_values.mapping(json.loads(connection.recv(timeout=_TIMEOUT_S)))
        if answer.get("type") != "auth_success":
            raise ValueError(f"the credentials are not accepted: {answer!r:.100}")
        connection.send(json.dumps({"type": "filter", "backfill": False, "filter": _filter(pool_id)}))


def _requested_pause_s(error: Exception) -> float | None:
    """Return the Retry-After of a handshake that was refused with a temporary status; None for any other error."""
    if isinstance(error, InvalidStatus) and error.response.status_code in TEMPORARY_STATUSES:
        return retry_after_s(CaseInsensitiveDict(error.response.headers.raw_items()))
    return None


def _filter(pool_id: str) -> dict[str, Any]:
    now = datetime.now(timezone.utc)
    return {
        "occurred": {
            "since": (now - timedelta(days=1)).isoformat(),
            "until": (now + timedelta(days=_FILTER_DAYS)).isoformat(),
        },
        "event": {"prefix": ["prefect.flow-run."]},
        "resource": {"labels": {"prefect.state-type": sorted({SCHEDULED, CANCELLING, *TERMINAL})}},
        "related": {"id": [f"prefect.work-pool.{pool_id}"]},
    }
