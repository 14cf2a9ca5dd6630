"""The server's parts put together: database, schema, wake board, and what runs by itself beside the requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from graphql import GraphQLNonNull
from graphql.type import GraphQLBoolean
from loguru import logger
from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from flowherd_server.graphql.execution import Answer, execute
from flowherd_server.graphql.loader import Budget
from flowherd_server.graphql.operations import Call, Caller, Effects, Input, Operation
from flowherd_server.graphql.root_fields import ROOT_FIELDS
from flowherd_server.graphql.schema import ComputedField, build_schema
from flowherd_server.mutations import OPERATIONS
from flowherd_server.mutations.agents import note_agent
from flowherd_server.runs.rescue import Attention, Rescue, RescueOptions, Stale
from flowherd_server.runs.startup_wakes import waiting
from flowherd_server.runs.wake_board import WakeBoard
from flowherd_server.schedules.scheduler import schedule_all
from flowherd_server.store.database import Database
from flowherd_server.store.pruning import prune
from flowherd_server.store.tables import AGENT
from flowherd_server.store.times import now_us

_PRUNE_INTERVAL_S = 3600.0
_RETRY_S = 10.0


SCHEMA = build_schema(
    OPERATIONS,
    ROOT_FIELDS,
    [ComputedField("agent", "connected", GraphQLNonNull(GraphQLBoolean), ("id",))],
)


class Service:
    """One running server, without its sockets. Made in the event loop; `answer` and the like are for worker threads."""

    def __init__(self, database: Database, schedule_ahead: int, keep_finished_s: float, rescue: RescueOptions) -> None:
        self.database = database
        self._loop = asyncio.get_running_loop()
        self.board = WakeBoard(self._loop)
        self.schedule_ahead = schedule_ahead
        self._keep_finished_s = keep_finished_s
        self._rescue_options = rescue
        self._schedules_changed = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin what runs by itself."""
        self.board.apply(waiting(self.database))
        self._tasks = [asyncio.create_task(each) for each in (self._schedule(), self._prune(), *self._rescues())]

    def release(self) -> None:
        """End the waits of agents, so that their connections can close."""
        self._stopping = True
        self.board.close()

    async def stop(self) -> None:
        """End what runs by itself."""
        self.release()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def stopping(self) -> bool:
        """Whether the server is about to end."""
        return self._stopping

    def answer(
        self, text: str, variables: Mapping[str, Any] | None, operation_name: str | None, caller: Caller
    ) -> Answer:
        """Carry out one GraphQL request; for a worker thread."""
        return execute(SCHEMA, text, variables, operation_name, RequestContext(self, caller, variables or {}))

    def labels_of_agent(self, agent_id: str) -> list[str] | None:
        """The labels of a registered agent, None for one that is not, and a note that it was heard of."""
        with self.database.writing(durable=False) as connection:
            note_agent(Call(connection, Caller(agent_id), now_us(), self.schedule_ahead))
            labels: list[str] | None = connection.execute(select(AGENT.c.labels).where(AGENT.c.id == agent_id)).scalar()
            return labels

    def announce(self, effects: Effects) -> None:
        """Wake whom it concerns; from any thread, after what was done is stored."""
        if effects.due or effects.agents or effects.schedules:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._apply, effects)

    def _apply(self, effects: Effects) -> None:
        self.board.apply(effects)
        if effects.schedules:
            self._schedules_changed.set()

    async def _schedule(self) -> None:
        pause_s = 0.0
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._schedules_changed.wait(), pause_s)
            self._schedules_changed.clear()
            try:
                effects, pause_s = await asyncio.to_thread(schedule_all, self.database, self.schedule_ahead)
                self.board.apply(effects)
            except SQLAlchemyError as error:
                logger.error("schedules could not be followed, next try in {} s: {}", _RETRY_S, error)
                pause_s = _RETRY_S

    def _rescues(self) -> Iterator[Coroutine[Any, Any, None]]:
        rescue, options = Rescue(self.database, self.schedule_ahead, lambda: self._stopping), self._rescue_options
        if options.zombie_interval_s > 0:
            yield self._rescue(options.zombie_interval_s, rescue.end_zombies)
        if options.lazarus_interval_s > 0:
            resurrect = partial(rescue.resurrect, attempts=options.lazarus_attempts)
            yield self._rescue(options.lazarus_interval_s, resurrect)

    async def _rescue(self, interval_s: float, rescue: Callable[[Stale], Effects]) -> None:
        attention = Attention(self._rescue_options.heartbeat_timeout_s)
        while True:
            await asyncio.sleep(interval_s)
            stale_before_us = attention.stale_before(interval_s)
            if stale_before_us is None:
                continue
            try:
                self.board.apply(await asyncio.to_thread(rescue, self._rescue_options.stale(stale_before_us)))
            except SQLAlchemyError as error:
                logger.error("runs without a heartbeat could not be looked after: {}", error)

    async def _prune(self) -> None:
        while True:
            try:
                count = await asyncio.to_thread(prune, self.database, self._keep_finished_s, lambda: self._stopping)
                if count:
                    logger.info("{} finished runs were older than the server keeps them and are gone", count)
            except SQLAlchemyError as error:
                logger.error("old runs could not be pruned: {}", error)
            await asyncio.sleep(_PRUNE_INTERVAL_S)


@dataclass
class RequestContext:
    """What resolvers find as info.context."""

    service: Service
    caller: Caller
    #: As they were sent.
    raw_variables: Mapping[str, Any]
    connection: Connection | None = None
    budget: Budget = field(default_factory=Budget)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One view of the database for a whole query."""
        with self.service.database.reading() as self.connection:
            yield

    def carry_out(self, operation: Operation, given: Input) -> Mapping[str, Any]:
        """Run a mutation in a transaction of its own, and tell who waits for it."""
        prepared = operation.prepare(given)
        with self.service.database.writing(operation.durable) as connection:
            call = Call(connection, self.caller, now_us(), self.service.schedule_ahead)
            answer = operation.handle(call, prepared)
        self.service.announce(call.effects)
        return answer

    def connected(self, agent_id: str) -> bool:
        """Whether the agent holds a connection now: the computed field agent.connected."""
        return self.service.board.is_connected(agent_id)
