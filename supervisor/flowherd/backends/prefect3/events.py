"""The server's stream of events, as the reason to look for work or for cancelled runs at once.

An event only wakes; what there is to do is always asked for. So nothing depends on this stream: where it breaks or
cannot be had, runs are found by polling.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from flowherd.backends import json_values
from flowherd.backends.prefect3.states import CANCELLED, CANCELLING, SCHEDULED, TERMINAL
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendUnavailable
from flowherd.values import Wake

_TIMEOUT_S = 10.0
#: A look at the clock while nothing comes: runs that are known to become due wake too.
_SLICE_S = 1.0
_MOST_BYTES = 4 * 1024 * 1024
#: The server hears only of events until a given time; this is far away.
_FOR_DAYS = 365


class Wakes:
    """Counts what there was to be woken for.

    `pool_id` tells whose runs' events to listen to, `limited` whether an ended run may make room for another there.
    """

    def __init__(self, transport: Prefect3Transport, pool_id: Callable[[], str], limited: Callable[[], bool]) -> None:
        self._transport = transport
        self._pool_id = pool_id
        self._limited = limited
        self._sequence = 0
        #: What the events since the last wake were about.
        self._work = self._ends = False
        self._due_s: float | None = None
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._connection: Connection | None = None
        #: The pool whose events the connection carries; one that is made again has another id.
        self._listens_to = ""

    def expect(self, in_s: float | None) -> None:
        """A run is known to become due then; None when none is known."""
        self._due_s = None if in_s is None else time.monotonic() + in_s

    def wait(self, seen: int, timeout_s: float) -> Wake:
        """What there is, as soon as its count differs from `seen`, or once the time is over. One thread at a time.

        Raises BackendUnavailable when the stream breaks or cannot be had.
        """
        deadline_s = time.monotonic() + timeout_s
        try:
            connection = self._connected()
            while self._sequence == seen and not self._over(deadline_s):
                self._take(connection, deadline_s)
        except (WebSocketException, OSError, ValueError, TypeError, KeyError) as error:
            self.close()
            raise BackendUnavailable(f"no events from {self._transport.address}: {error!r:.200}") from error
        wake = Wake(sequence=self._sequence, work=self._work, ends=self._ends)
        self._work = self._ends = False
        return wake

    def close(self) -> None:
        """Break the connection; a wait under way in another thread fails."""
        with self._lock:
            self._connection = None
            stack, self._stack = self._stack, ExitStack()
        stack.close()

    def _over(self, deadline_s: float) -> bool:
        now_s = time.monotonic()
        if self._due_s is not None and now_s >= self._due_s:
            self._due_s = None
            self._sequence += 1
            self._work = True
        return now_s >= deadline_s

    def _take(self, connection: Connection, deadline_s: float) -> None:
        until_s = min(deadline_s, self._due_s if self._due_s is not None else deadline_s)
        timeout_s = min(max(until_s - time.monotonic(), 0.0), _SLICE_S)
        try:
            while True:  # all that has come; one wake is for all of them
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
        pool_id = self._pool_id()
        if self._connection is not None and self._listens_to == pool_id:
            return self._connection
        self.close()
        with ExitStack() as stack:
            connection: Connection = stack.enter_context(
                connect(
                    "ws" + self._transport.address.removeprefix("http") + "/events/out",
                    subprotocols=["prefect"],  # type: ignore[list-item]
                    open_timeout=_TIMEOUT_S,
                    close_timeout=1.0,
                    max_size=_MOST_BYTES,
                    proxy=None,
                    compression=None,
                    ssl=self._tls(),
                )
            )
            self._greet(connection, pool_id)
            with self._lock:
                self._connection, self._listens_to, self._stack = connection, pool_id, stack.pop_all()
        self._sequence += 1  # whatever happened while nobody listened
        self._work = self._ends = True
        return connection

    def _tls(self) -> ssl.SSLContext | None:
        """None is the library's own, or no TLS where the address has none."""
        if not self._transport.ssl_cert_file or not self._transport.address.startswith("https:"):
            return None
        return ssl.create_default_context(cafile=self._transport.ssl_cert_file)

    def _greet(self, connection: Connection, pool_id: str) -> None:
        token = self._transport.auth_string or self._transport.api_key or None
        connection.send(json.dumps({"type": "auth", "token": token}))
        answer = json_values.mapping(json.loads(connection.recv(timeout=_TIMEOUT_S)))
        if answer.get("type") != "auth_success":
            raise ValueError(f"the credentials are not accepted: {answer!r:.100}")
        connection.send(json.dumps({"type": "filter", "backfill": False, "filter": _filter(pool_id)}))


def _filter(pool_id: str) -> dict[str, Any]:
    now = datetime.now(timezone.utc)
    return {
        "occurred": {
            "since": (now - timedelta(days=1)).isoformat(),
            "until": (now + timedelta(days=_FOR_DAYS)).isoformat(),
        },
        "event": {"prefix": ["prefect.flow-run."]},
        "resource": {"labels": {"prefect.state-type": sorted({SCHEDULED, CANCELLING, *TERMINAL})}},
        "related": {"id": [f"prefect.work-pool.{pool_id}"]},
    }
