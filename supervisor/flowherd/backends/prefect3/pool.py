"""One work pool: create it if it is missing, send the worker's heartbeat, poll for runs that are due."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from loguru import logger

from flowherd.backends import json_values
from flowherd.backends.prefect3.job_variables import PROCESS_TEMPLATE
from flowherd.backends.prefect3.transport import Prefect3Transport, segment
from flowherd.errors import BackendError, BackendRefused, NotAuthorized

#: Time between two heartbeats, seconds, as in Prefect's own worker. The server shows a worker as offline after three
#: missed ones.
HEARTBEAT_INTERVAL_S = 30.0
#: Maximum number of runs in one answer of the server.
MAX_RUNS = 200
#: The type of pool whose runs are processes on the worker's host.
_TYPE = "process"


@dataclass(frozen=True, kw_only=True)
class PoolFacts:
    """What the server returns about the pool."""

    id: str
    base_job_template: Mapping[str, Any] = field(default_factory=dict)
    #: Names of the pool's queues, by id.
    queues: Mapping[str, str] = field(default_factory=dict)
    #: Whether the pool or one of its queues has a concurrency limit.
    limited: bool = False


class WorkPool:
    """One pool as a worker uses it; empty `queues` means all of its queues."""

    def __init__(
        self, transport: Prefect3Transport, name: str, queues: Sequence[str] = (), *, create: bool = True
    ) -> None:
        self.name = name
        self._transport = transport
        self._queues = list(dict.fromkeys(queues))
        self._create = create
        self._path = f"/work_pools/{segment(name)}"
        self._lock = threading.Lock()
        self._facts: PoolFacts | None = None
        self._next_heartbeat_s = 0.0

    @property
    def facts(self) -> PoolFacts:
        """What is known of the pool; requested from the server if nothing is known yet."""
        return self._facts or self.refresh()

    def refresh(self) -> PoolFacts:
        """Request the pool, and create it and its queues if they are missing.

        Raises BackendRefused if it is missing and must not be created, or if its type is not process.
        """
        row = self._find() or self._make()
        if row.get("type") != _TYPE:
            raise BackendRefused(
                f"the work pool {self.name!r} is of type {row.get('type')!r:.40}; flowherd needs one of type process"
            )
        queues = json_values.mappings_not_null(self._transport.post(f"{self._path}/queues/filter", {}))
        self._make_queues({json_values.text(queue["name"]) for queue in queues})
        limits = [row.get("concurrency_limit"), *(queue.get("concurrency_limit") for queue in queues)]
        self._facts = PoolFacts(
            id=json_values.header_value(row["id"]),
            base_job_template=json_values.mapping(row.get("base_job_template") or {}),
            queues={json_values.text(queue["id"]): json_values.text(queue["name"]) for queue in queues},
            limited=any(limit is not None for limit in limits),
        )
        return self._facts

    def beat(self, worker_name: str) -> None:
        """Send a heartbeat and refresh the pool, if that is due; a failure is only logged."""
        with self._lock:
            if time.monotonic() < self._next_heartbeat_s:
                return
            self._next_heartbeat_s = time.monotonic() + HEARTBEAT_INTERVAL_S
        try:
            self.refresh()
            self.send_heartbeat(worker_name)
        except NotAuthorized:
            raise
        except BackendError as error:
            logger.debug("Cannot send the heartbeat of the worker of work pool {}: {}", self.name, error)

    def send_heartbeat(self, worker_name: str) -> None:
        """Send a heartbeat, which also registers the worker by its name."""
        self._next_heartbeat_s = time.monotonic() + HEARTBEAT_INTERVAL_S
        beat = {"name": worker_name, "heartbeat_interval_seconds": int(HEARTBEAT_INTERVAL_S)}
        self._transport.post(f"{self._path}/workers/heartbeat", beat)

    def scheduled_runs(self, before: datetime) -> list[Any]:
        """Return rows of runs that are to start before that time, by queue priority and then by time.

        The server leaves out paused queues and runs that its concurrency limits do not allow now. Reserves nothing.
        """
        query: dict[str, Any] = {"scheduled_before": before.isoformat(), "limit": MAX_RUNS}
        if self._queues:
            query["work_queue_names"] = self._queues
        listed = json_values.mappings_not_null(self._transport.post(f"{self._path}/get_scheduled_flow_runs", query))
        return [entry.get("flow_run") for entry in listed]

    def forget(self) -> None:
        """Request the pool again before its next use, because it has changed."""
        self._facts = None
        self._next_heartbeat_s = 0.0

    def _find(self) -> Mapping[str, Any] | None:
        try:
            return json_values.mapping(self._transport.get(self._path))
        except BackendRefused as error:
            if error.code != "404":
                raise
            if not self._create:
                raise BackendRefused(
                    f"there is no work pool {self.name!r}, and prefect3.create_pool is off, so it is not created", "404"
                ) from error
        return None

    def _make(self) -> Mapping[str, Any]:
        """Create the pool, unless another worker has just done so."""
        wanted = {"name": self.name, "type": _TYPE, "base_job_template": PROCESS_TEMPLATE}
        try:
            row = json_values.mapping(self._transport.post("/work_pools/", wanted))
        except BackendRefused as error:
            if error.code != "409":
                raise
            return json_values.mapping(self._transport.get(self._path))
        logger.info("Created the work pool {}", self.name)
        return row

    def _make_queues(self, known: Collection[str]) -> None:
        for name in self._queues:
            if name not in known:
                try:
                    self._transport.post(f"{self._path}/queues", {"name": name})
                except BackendRefused as error:
                    if error.code != "409":
                        raise
                else:
                    logger.info("Created the queue {} of the work pool {}", name, self.name)


def soonest(moments: Sequence[datetime | None], now: datetime) -> float | None:
    """Return the seconds from `now` to the first of these times; None if there is none."""
    left = [max(moment - now, timedelta()).total_seconds() for moment in moments if moment is not None]
    return min(left, default=None)
