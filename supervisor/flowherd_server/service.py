"""The server without its sockets: puts database, schema, wake board and background tasks together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from graphql import GraphQLNonNull
from graphql.type import GraphQLBoolean
from loguru import logger
from sqlalchemy import Connection, select

from flowherd.host_figures import HostHistory, read_host
from flowherd.run_token import RunToken
from flowherd_server.background import Background
from flowherd_server.call import Call, Caller, Effects
from flowherd_server.errors import UNAUTHENTICATED, Refused, errors_answer
from flowherd_server.graphql.encoding import encoded
from flowherd_server.graphql.execution import execute, is_query
from flowherd_server.graphql.loader import Budget
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.root_fields import ROOT_FIELDS
from flowherd_server.graphql.schema import ComputedField, build_schema
from flowherd_server.graphql.turns import Turn, Turns
from flowherd_server.graphql.unstorable import check_storable
from flowherd_server.mutations import OPERATIONS
from flowherd_server.mutations.of_run import run_schema
from flowherd_server.offers import DueRun, OfferBook
from flowherd_server.runs.accounts import ACCOUNT_FIELDS, AccountFields
from flowherd_server.runs.agent_contacts import AgentContacts
from flowherd_server.runs.change_feed import ChangeFeed
from flowherd_server.runs.day_counts import DayCounts
from flowherd_server.runs.followers import Followers
from flowherd_server.runs.live_board import LiveBoard
from flowherd_server.runs.live_fields import LIVE_FIELDS, WATCHING_WORDS, LiveFields
from flowherd_server.runs.measures import ServerMeasures
from flowherd_server.runs.run_details import run_details
from flowherd_server.runs.run_ends import RunEnds
from flowherd_server.runs.run_scope import RunScope, scope_of
from flowherd_server.runs.stale_heartbeats import RescueOptions
from flowherd_server.runs.startup_wakes import startup_wakes
from flowherd_server.runs.stuck_runs import StuckRuns
from flowherd_server.runs.subscribers import Subscribers
from flowherd_server.runs.usual_durations import UsualDurations
from flowherd_server.runs.wake_board import WakeBoard
from flowherd_server.schedules.schedule_fields import SCHEDULE_FIELDS
from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import now_us
from flowherd_server.store.tables import AGENT

SCHEMA = build_schema(
    OPERATIONS,
    {**ROOT_FIELDS, **SCHEDULE_FIELDS},
    [ComputedField("agent", "connected", GraphQLNonNull(GraphQLBoolean), ("id",)), *LIVE_FIELDS, *ACCOUNT_FIELDS],
)

#: How long a question for figures waits for the agents' reports if the last ones are old, seconds.
_FIGURES_S = 0.25


class ServerCore:
    """One running server. Must be made in the event loop; methods for other threads say so."""

    def __init__(
        self,
        database: Database,
        schedule_ahead: int,
        keep_finished_s: float,
        rescue: RescueOptions,
        restored_us: int | None = None,
    ) -> None:
        self.database = database
        #: Tells this life of the server from others.
        self.instance = uuid4().hex
        #: Whether this life of the server began on an older copy of the database.
        self.restored = False
        self._offers_from_s = 0.0
        self._loop = asyncio.get_running_loop()
        self.offers = OfferBook()
        self.subscribers = Subscribers(self.offers, self._details)
        self.board = WakeBoard(self._loop, self.offers, self.subscribers)
        #: Clients that wait for ends of runs.
        self.ends = RunEnds(database)
        #: Called after each commit, in the thread that made it.
        self.listeners: list[Callable[[Effects], None]] = [self.ends.announce]
        #: Clients that follow logs.
        self.followers = Followers(self.subscribers.tell_followed)
        self.listeners.append(self.followers.announce)
        #: Pages that are open.
        self.feed = ChangeFeed(self._loop)
        self.listeners.append(self.feed.announce)
        self.contacts = AgentContacts(database)
        #: What agents report of the runs that go on, in memory.
        self.live = LiveBoard(self._tell_watched, self._tell_order)
        self.live.on_report = self.feed.reported
        self.listeners.append(lambda effects: self.live.forget(effects.ended))
        self.usual = UsualDurations()
        self.stuck_runs = StuckRuns(self.live, self.usual)
        #: How this host, with the disk of the database, was in the last hour.
        self.host = HostHistory(lambda: read_host({"data": database.path.parent}))
        self.day = DayCounts()
        self.measures = ServerMeasures(database)
        self.listeners.append(self.measures.announce)
        self.schedule_ahead = schedule_ahead
        self.turns = Turns()
        self._background = Background(
            database,
            self.announce,
            self.contacts,
            self.host,
            schedule_ahead=schedule_ahead,
            keep_finished_s=keep_finished_s,
            rescue=rescue,
            restored_us=restored_us,
            offers_runs=lambda: self.offers_runs,
        )
        self._stopping = False

    def start(self) -> None:
        """Start the background tasks, and wake agents for runs that an earlier server left waiting."""
        self.board.apply(startup_wakes(self.database))
        self._background.start(restored=self.restored)

    def use(self, keep_finished_s: float, rescue: RescueOptions) -> None:
        """Use other values of these settings from now on. For any thread."""
        self._in_loop(self._background.use, keep_finished_s, rescue)

    def hold_back(self, seconds: float) -> None:
        """Hand out no runs for some time, because the database is an older copy."""
        self.restored = True
        self._offers_from_s = time.monotonic() + seconds
        self._loop.call_later(seconds, self._offer_again)

    def _offer_again(self) -> None:
        if not self._stopping:
            logger.info("runs are handed out again")
            self.board.poke()

    def wake_all(self) -> None:
        """Wake all agents that wait. For any thread."""
        self._in_loop(self.board.poke)

    @property
    def offers_runs(self) -> bool:
        """Whether runs may be handed out now."""
        return time.monotonic() >= self._offers_from_s

    def release(self) -> None:
        """End the waits of agents, so that their connections can close."""
        self._stopping = True
        self._background.request_stop()
        self.board.close()
        self.ends.close()
        self.feed.close()

    async def stop(self) -> None:
        """Stop the background tasks."""
        self.release()
        await self._background.stop()
        await asyncio.to_thread(self.contacts.store)

    @property
    def stopping(self) -> bool:
        """Whether the server is about to end."""
        return self._stopping

    def answer(
        self, text: str, variables: Mapping[str, Any] | None, operation_name: str | None, caller: Caller
    ) -> tuple[int, list[bytes]]:
        """Execute one GraphQL request. Returns status and JSON text, in pieces. For worker threads."""
        if caller.run is not None:
            return self._answer_run(text, variables, operation_name, caller, caller.run)
        if "last_queried" in text or "reported" in text:
            self.contacts.store()
        if any(word in text for word in WATCHING_WORDS):
            self.live.ask_for_figures(_FIGURES_S, self.board.is_connected)
        with self.turns.turn() as turn:
            context = RequestContext(self, caller, variables or {}, turn)
            answer = execute(SCHEMA, text, variables, operation_name, context)
            return answer.status, encoded(answer.body, turn)

    def _answer_run(
        self, text: str, variables: Mapping[str, Any] | None, name: str | None, caller: Caller, token: RunToken
    ) -> tuple[int, list[bytes]]:
        """Execute a request that came with the token of a flow run, as far as it concerns that run."""
        with self.turns.turn() as turn:
            try:
                with self.database.reading() as connection:
                    scope = scope_of(connection, token)
                if is_query(run_schema(), text, name):
                    scope.check_goes_on()
            except Refused as refused:
                return 401, encoded(errors_answer(str(refused), UNAUTHENTICATED), turn)
            # An engine is no agent, and belongs to its run's tenant.
            caller = replace(caller, agent_id=None, tenant_id=scope.tenant_id)
            context = RequestContext(self, caller, variables or {}, turn, scope)
            answer = execute(run_schema(), text, variables, name, context)
            return answer.status, encoded(scope.explained(answer.status, answer.body), turn)

    def change(
        self, text: str, variables: Mapping[str, Any] | None, operation_name: str | None, caller: Caller
    ) -> tuple[int, list[bytes]] | None:
        """Execute one GraphQL request as `answer` does, or return None if it is a query. For worker threads."""
        schema = SCHEMA if caller.run is None else run_schema()
        return None if is_query(schema, text, operation_name) else self.answer(text, variables, operation_name, caller)

    def labels_of_agent(self, agent_id: str) -> list[str] | None:
        """Return the labels of a registered agent, or None, and note that it made a request. For worker threads."""
        with self.database.reading() as connection:
            labels: list[str] | None = connection.execute(select(AGENT.c.labels).where(AGENT.c.id == agent_id)).scalar()
        if labels is not None:
            self.contacts.note(agent_id, now_us())
        return labels

    def note_request(self, agent_id: str | None, report: Any = None) -> None:
        """Note that an agent has made a request, and what it reports of itself with it. For any thread."""
        self.contacts.note(agent_id, now_us(), report)
        if report is not None:
            self.live.note(agent_id, report)

    def announce(self, effects: Effects) -> None:
        """Wake those whom an operation concerns, after it is stored. For any thread that may read the database."""
        self.offers.taken(effects.taken)
        offered_to = self._offer(effects)
        if effects.agents:
            self.subscribers.wake_agents(effects.agents)
        for listener in self.listeners:
            listener(effects)
        if self._background.has_news_of(effects):
            self._in_loop(self._background.look_at_rules)
        if effects.due or effects.agents or effects.schedules or offered_to:
            self._in_loop(self._apply, effects, offered_to)

    def _in_loop(self, what: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, so no agent waits
            self._loop.call_soon_threadsafe(what, *arguments)

    def _tell_watched(self) -> None:
        self._tell_live({agent.agent_id for agent in self.live.agents() if agent.is_live})

    def _tell_order(self, agent_id: str) -> None:
        self._tell_live({agent_id})

    def _tell_live(self, agent_ids: Collection[str]) -> None:
        """Send agents what they are asked now beside runs, and wake those that have no lane."""
        self.subscribers.tell_live(agent_ids, self.live.news)
        self._in_loop(self.board.wake_for_live, agent_ids)

    def _offer(self, effects: Effects) -> list[str]:
        """Offer the runs that are due now to agents that wait, and send them to those that are subscribers.

        What is left in `effects` is for the board: runs for which none has room, and those that are due later. Returns
        the keys of the agents that the board has to wake.
        """
        if not effects.due or not self.offers_runs:
            return []
        now, left, offered_to, subscribed = now_us(), list[tuple[int, DueRun]](), list[str](), dict[str, list[DueRun]]()
        for at_us, run in sorted(effects.due, key=lambda each: each[0]):
            key = self.offers.assign(run) if at_us <= now else None
            if key is None:
                left.append((at_us, run))
            elif key in self.subscribers:
                subscribed.setdefault(key, []).append(run)
            elif key:
                offered_to.append(key)
        effects.due = left
        if subscribed:
            self.subscribers.offer(subscribed)
            self.board.offered(())
        return offered_to

    def _details(self, run_ids: Sequence[str]) -> list[dict[str, Any]]:
        if not self.offers_runs:
            return []
        with self.database.reading() as connection:
            return run_details(connection, now_us(), run_ids)

    def _apply(self, effects: Effects, offered_to: Sequence[str]) -> None:
        self.board.apply(effects, offered_to)
        if effects.schedules:
            self._background.reschedule()


@dataclass
class RequestContext(LiveFields, AccountFields):
    """What resolvers find as info.context."""

    core: ServerCore
    caller: Caller
    #: The variables as they were sent.
    raw_variables: Mapping[str, Any]
    turn: Turn
    #: The flow run whose token the client has, with what belongs to it; None if it may ask for anything.
    scope: RunScope | None = None
    connection: Connection | None = None
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        self.board, self.stuck_runs = self.core.live, self.core.stuck_runs

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Open one consistent view of the database for a whole query."""
        with self.core.database.reading() as self.connection:
            yield

    def carry_out(self, operation: Operation, given: Input) -> Mapping[str, Any]:
        """Run a mutation in a transaction of its own, and then wake those whom it concerns."""
        if not operation.any_text:
            check_storable("input", given)
        prepared = operation.prepare(given)
        core = self.core
        if operation.asks_for_work:
            core.note_request(self.caller.agent_id, given.get("report"))
            transaction = core.database.reading()
        else:
            transaction = core.database.writing(operation.durable)
        with transaction as connection:
            # With the time at which it has the write lock, so that later changes have later times.
            call = Call(
                connection,
                self.caller,
                now_us(),
                core.schedule_ahead,
                core.offers_runs,
                offers=core.offers,
                live=core.live,
            )
            if self.scope is not None:
                self.scope.check_change(connection, operation.name, given)
            answer = operation.handle(call, prepared)
        core.announce(call.effects)
        core.feed.carried_out(operation.name)
        if operation.asks_for_work:
            core.board.offered(call.effects.passed)
        return answer

    def connected(self, agent_id: str) -> bool:
        """Return whether the agent holds a connection now: the computed field agent.connected."""
        return self.core.board.is_connected(agent_id)
