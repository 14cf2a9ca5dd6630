"""What the server does by itself beside answering requests: scheduling, rescuing dead runs, pruning old ones.

Each task runs in the event loop and does its database work in a worker thread. An error of the database is logged, and
the task tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

from loguru import logger
from sqlalchemy.exc import SQLAlchemyError

from flowherd.host_figures import STEP_S, HostHistory
from flowherd_server.call import Effects
from flowherd_server.rules.gatekeeper import Gatekeeper
from flowherd_server.runs.agent_contacts import STORE_INTERVAL_S, AgentContacts
from flowherd_server.runs.rescue import Rescue
from flowherd_server.runs.stale_heartbeats import HeartbeatWatch, RescueOptions, StaleHeartbeats
from flowherd_server.schedules.scheduler import schedule_due
from flowherd_server.store.database import Database
from flowherd_server.store.pruning import prune

_PRUNE_INTERVAL_S = 3600.0
#: Pause after the scheduler failed, seconds.
_RETRY_S = 10.0
#: Pause between two looks whether runs are handed out again after a restore, seconds.
_HELD_BACK_PAUSE_S = 0.5


class Background:
    """The server's background tasks."""

    def __init__(
        self,
        database: Database,
        announce: Callable[[Effects], None],
        contacts: AgentContacts,
        host: HostHistory,
        *,
        schedule_ahead: int,
        keep_finished_s: float,
        rescue: RescueOptions,
        restored_us: int | None = None,
        offers_runs: Callable[[], bool] = lambda: True,
    ) -> None:
        self._database = database
        self._announce = announce
        self._contacts = contacts
        self._host = host
        self._schedule_ahead = schedule_ahead
        self._keep_finished_s = keep_finished_s
        self._rescue_options = rescue
        self._restored_us = restored_us
        self._offers_runs = offers_runs
        #: Whether runs are made up for that came due while no server ran.
        self._makes_up = True
        self._schedules_changed = asyncio.Event()
        self._gatekeeper = Gatekeeper(database, schedule_ahead)
        self._runs_due = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._rescue_tasks: list[asyncio.Task[None]] = []
        self._prune_now = asyncio.Event()

    def start(self, *, restored: bool = False) -> None:
        """Start the tasks. On an older copy of the database nothing is made up for: it ran before the restore."""
        self._makes_up = not restored
        tasks = (self._schedule(), self._keep_gate(), self._prune(), self._store_contacts(), self._look_at_host())
        self._tasks = [asyncio.create_task(each) for each in tasks]
        self._rescue_tasks = [asyncio.create_task(each) for each in self._rescues()]

    def use(self, keep_finished_s: float, rescue: RescueOptions) -> None:
        """Use other values of these settings from now on."""
        if self._stopping:
            return
        if keep_finished_s != self._keep_finished_s:
            self._keep_finished_s = keep_finished_s
            self._prune_now.set()
        if rescue != self._rescue_options:
            self._rescue_options = rescue
            former, self._rescue_tasks = self._rescue_tasks, [asyncio.create_task(each) for each in self._rescues()]
            self._tasks += former  # which `stop` waits for
            for task in former:
                task.cancel()

    def request_stop(self) -> None:
        """Have work in threads end at the next opportunity."""
        self._stopping = True

    async def stop(self) -> None:
        """Cancel the tasks and wait for their end."""
        self.request_stop()
        tasks = [*self._tasks, *self._rescue_tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def has_news_of(self, effects: Effects) -> bool:
        """Return whether the rules of flows have to be looked at because of these effects. For any thread."""
        return self._gatekeeper.has_news(effects)

    def look_at_rules(self) -> None:
        """Look now at the runs whose flows have rules."""
        self._runs_due.set()

    def reschedule(self) -> None:
        """Run the scheduler now, because a schedule has changed."""
        self._schedules_changed.set()

    async def _schedule(self) -> None:
        look = partial(schedule_due, self._database, self._schedule_ahead, make_up=self._makes_up)
        await self._repeat(look, self._schedules_changed, "create the runs of schedules")

    async def _keep_gate(self) -> None:
        await self._repeat(self._apply_rules, self._runs_due, "apply the rules of flows")

    def _apply_rules(self) -> tuple[Effects, float]:
        # After a restore only once the agents have told what has run already.
        return self._gatekeeper.look() if self._offers_runs() else (Effects(), _HELD_BACK_PAUSE_S)

    async def _repeat(self, look: Callable[[], tuple[Effects, float]], is_due: asyncio.Event, what: str) -> None:
        """Do `look` again and again, after the pause that it returns or as soon as `is_due`."""
        pause_s = 0.0
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(is_due.wait(), pause_s)
            is_due.clear()
            try:
                effects, pause_s = await asyncio.to_thread(look)
                await asyncio.to_thread(self._announce, effects)
            except SQLAlchemyError as error:
                logger.error("cannot {}, next try in {} s: {}", what, _RETRY_S, error)
                pause_s = _RETRY_S

    def _rescues(self) -> Iterator[Coroutine[Any, Any, None]]:
        rescue, options = Rescue(self._database, self._schedule_ahead, self._is_stopping), self._rescue_options
        if options.zombie_interval_s > 0:
            yield self._rescue(options.zombie_interval_s, rescue.end_zombies)
            if self._restored_us is not None:
                end_forgotten = partial(rescue.end_forgotten, restored_us=self._restored_us)
                yield self._rescue(options.zombie_interval_s, end_forgotten)
        if options.lazarus_interval_s > 0:
            resurrect = partial(rescue.resurrect, attempts=options.lazarus_attempts)
            yield self._rescue(options.lazarus_interval_s, resurrect)

    async def _rescue(self, interval_s: float, rescue: Callable[[StaleHeartbeats], Effects]) -> None:
        watch = HeartbeatWatch(self._rescue_options.heartbeat_timeout_s)
        while True:
            await asyncio.sleep(interval_s)
            stale_before_us = watch.stale_before(interval_s)
            if stale_before_us is None:
                continue
            try:
                effects = await asyncio.to_thread(rescue, self._rescue_options.stale(stale_before_us))
                await asyncio.to_thread(self._announce, effects)
            except SQLAlchemyError as error:
                logger.error("cannot rescue runs without a heartbeat: {}", error)

    async def _prune(self) -> None:
        while True:
            try:
                count = await asyncio.to_thread(prune, self._database, self._keep_finished_s, self._is_stopping)
                if count:
                    logger.info("deleted {} finished runs that were older than the server keeps them", count)
            except SQLAlchemyError as error:
                logger.error("cannot delete old runs: {}", error)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._prune_now.wait(), _PRUNE_INTERVAL_S)
            self._prune_now.clear()

    async def _store_contacts(self) -> None:
        while True:
            await asyncio.sleep(STORE_INTERVAL_S)
            await asyncio.to_thread(self._contacts.store)

    async def _look_at_host(self) -> None:
        while True:
            await asyncio.to_thread(self._host.look)
            await asyncio.sleep(STEP_S)

    def _is_stopping(self) -> bool:
        return self._stopping
