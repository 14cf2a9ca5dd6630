"""One work pool: made if it is missing, told that its worker lives, asked for runs that are due."""

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
from flowherd.backends.prefect3.rows import objects
from flowherd.backends.prefect3.transport import Prefect3Transport, segment
from flowherd.errors import BackendError, BackendRefused, NotAuthorized

#: The server shows a worker as offline after three missed ones; Prefect's worker has the same.
HEARTBEAT_INTERVAL_S = 30.0
#: The most that the server hands out at once.
MOST_RUNS = 200
#: The one type of pool whose runs are processes of the worker's host.
_TYPE = "process"


@dataclass(frozen=True, kw_only=True)
class PoolFacts:
    """What the server says of the pool."""

    id: str
    base_job_template: Mapping[str, Any] = field(default_factory=dict)
    #: Names of its queues by their ids.
    queues: Mapping[str, str] = field(default_factory=dict)
    #: It or one of its queues lets only so many runs go at the same time.
    limited: bool = False


class WorkPool:
    """The worker's part of one pool. `queues` empty is all of its queues."""

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
        """What is known of the pool; asked for where nothing is yet."""
        return self._facts or self.refresh()

    def refresh(self) -> PoolFacts:
        """Ask for the pool, and make it and its queues where they are missing.

        Raises BackendRefused when it is missing and not to be made, or its runs are not processes.
        """
        row = self._found() or self._made()
        if row.get("type") != _TYPE:
            raise BackendRefused(
                f"the work pool {self.name!r} is of type {row.get('type')!r:.40}; flowherd serves pools of type process"
            )
        queues = objects(self._transport.post(f"{self._path}/queues/filter", {}))
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
        """Say that the worker lives, and learn what has become of the pool, when that is due. Fails nothing."""
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
            logger.debug("The work pool {} could not be told that its worker lives: {}", self.name, error)

    def send_heartbeat(self, worker_name: str) -> None:
        """Say that the worker lives."""
        self._next_heartbeat_s = time.monotonic() + HEARTBEAT_INTERVAL_S
        beat = {"name": worker_name, "heartbeat_interval_seconds": int(HEARTBEAT_INTERVAL_S)}
        self._transport.post(f"{self._path}/workers/heartbeat", beat)

    def scheduled_runs(self, before: datetime) -> list[Any]:
        """Rows of runs that are to start before that time, by queue priority and then by time.

        The server leaves out what is paused and what its limits do not let go now. Reserves nothing.
        """
        asked: dict[str, Any] = {"scheduled_before": before.isoformat(), "limit": MOST_RUNS}
        if self._queues:
            asked["work_queue_names"] = self._queues
        listed = objects(self._transport.post(f"{self._path}/get_scheduled_flow_runs", asked))
        return [entry.get("flow_run") for entry in listed]

    def forget(self) -> None:
        """Ask anew for the pool before the next use: it is not what it was."""
        self._facts = None
        self._next_heartbeat_s = 0.0

    def _found(self) -> Mapping[str, Any] | None:
        try:
            return json_values.mapping(self._transport.get(self._path))
        except BackendRefused as error:
            if error.code != "404":
                raise
            if not self._create:
                raise BackendRefused(f"there is no work pool {self.name!r}, and none is to be made", "404") from error
        return None

    def _made(self) -> Mapping[str, Any]:
        """Make the pool, unless another worker was quicker."""
        wanted = {"name": self.name, "type": _TYPE, "base_job_template": PROCESS_TEMPLATE}
        try:
            row = json_values.mapping(self._transport.post("/work_pools/", wanted))
        except BackendRefused as error:
            if error.code != "409":
                raise
            return json_values.mapping(self._transport.get(self._path))
        logger.info("Made the work pool {}", self.name)
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
                    logger.info("Made the queue {} of the work pool {}", name, self.name)


def soonest(moments: Sequence[datetime | None], now: datetime) -> float | None:
    """Seconds from `now` to the first of these; None when there is none."""
    left = [max(moment - now, timedelta()).total_seconds() for moment in moments if moment is not None]
    return min(left, default=None)
