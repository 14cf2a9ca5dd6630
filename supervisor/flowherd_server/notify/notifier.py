"""The thread that notices what is to be notified, and the delivery. Does nothing as long as there is no rule.

What is noticed and what it changes are on the disk in one transaction with the notifications that follow from it, so a
killed server neither loses one nor makes it twice; it may deliver one twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from loguru import logger
from sqlalchemy.exc import SQLAlchemyError

from flowherd.notify.changes import Condition, LastingTroubles, ended
from flowherd.notify.delivery import Delivery, Target
from flowherd.notify.kinds import Kind
from flowherd.notify.rules import Rule
from flowherd.recurring_error import RecurringError
from flowherd_server.call import Effects
from flowherd_server.errors import DatabaseLost
from flowherd_server.notify.events import (
    MOST_AT_ONCE,
    Desk,
    conditions,
    delete_condition,
    store_condition,
    take_events,
)
from flowherd_server.notify.found import Around, Sources
from flowherd_server.notify.looks import LOOKED_FOR, look_for
from flowherd_server.notify.outbox import DatabaseOutbox
from flowherd_server.notify.rules import store_settings, stored_rules
from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import now_us
from flowherd_server.store.notification_tables import GOOD, NOTIFICATION_EVENT

#: Pause between two looks, seconds.
_LOOK_S = 10.0
#: How long after its start the server does not judge by reports of agents, seconds.
_SETTLE_S = 90.0
#: How long a delivery under way may hold up the end of the server, seconds.
_STOP_S = 1.0


@dataclass(frozen=True, kw_only=True)
class NotifyOptions:
    """What the settings say of notifications."""

    targets: Sequence[Target] = ()
    rules: Sequence[Rule] = ()
    #: Address of the page, for links; empty for that of the server.
    page: str = ""
    #: How long a trouble must last before it is notified, seconds.
    after_s: float = 60.0
    #: Pause between two looks, and how long reports of agents do not count after the start, seconds.
    look_s: float = field(default=_LOOK_S)
    settle_s: float = field(default=_SETTLE_S)


class Notifier:
    """The notifications of one server."""

    def __init__(self, database: Database, options: NotifyOptions, sources: Sources) -> None:
        self._database = database
        self._options = options
        self._sources = sources
        self._page = options.page
        self._delivery = Delivery(DatabaseOutbox(database), options.targets, logger)
        self._lasting = LastingTroubles(options.after_s)
        self._started_s = time.monotonic()
        self._woken = threading.Event()
        self._stopping = False
        self._rules: Sequence[Rule] = ()
        #: Whether a good end may change something.
        self._has_conditions = True
        self._looking = RecurringError("look for what is to be notified", logger)
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)

    def start(self, page: str) -> None:
        """Start. `page` is the address of the server itself."""
        self._page = (self._options.page or page).rstrip("/")
        self._thread.start()

    def stop(self) -> None:
        """Stop. What is not delivered waits for the next start."""
        self._stopping = True
        self._woken.set()
        self._delivery.stop(_STOP_S)
        self._thread.join()

    def announce(self, effects: Effects) -> None:
        """Look now, if something has ended that may be notified. For any thread, after each commit."""
        if effects.notifications or (
            self._rules
            and effects.ended
            and (self._has_conditions or any(each["state"] not in GOOD for each in effects.ended.values()))
        ):
            self._woken.set()
            if effects.notifications:
                self._delivery.wake()

    def _run(self) -> None:
        while not self._stopping:
            try:
                store_settings(self._database, self._options.rules, self._options.targets)
                break
            except (SQLAlchemyError, DatabaseLost) as error:
                self._looking.failed(error)
                self._woken.wait(self._options.look_s)
                self._woken.clear()
        if self._options.targets and not self._stopping:
            self._delivery.start()
            self._watch()

    def _watch(self) -> None:
        next_look_s = 0.0
        while not self._stopping:
            pause_s: float | None = self._options.look_s
            try:
                more = self._take_events()
                if time.monotonic() >= next_look_s:
                    self._look()
                    next_look_s = time.monotonic() + self._options.look_s
                if not any(rule.on & LOOKED_FOR for rule in self._rules):
                    pause_s = None
                self._looking.recovered()
            except Exception as error:  # whatever it is, the thread goes on
                self._looking.failed(error)
                more = False
            if not more:
                self._woken.wait(pause_s)
                self._woken.clear()

    def _take_events(self) -> bool:
        """Take what has happened. Returns whether there is more."""
        with self._database.reading() as connection:
            self._rules = stored_rules(connection)
            known = conditions(connection)
            has_events = connection.execute(NOTIFICATION_EVENT.select().limit(1)).first() is not None
        self._has_conditions = has_events or any(key.startswith("flow:") for key in known)
        if not has_events:
            return False
        with self._database.writing() as connection:
            taken = take_events(Desk(connection=connection, rules=self._rules, channels=self._names, page=self._page))
        self._delivery.wake()
        self._has_conditions = True
        return taken == MOST_AT_ONCE

    def _look(self) -> None:
        """Look for what is not well now, and what of it is over."""
        kinds = frozenset(kind for rule in self._rules for kind in rule.on) & LOOKED_FOR
        if not kinds:
            return
        settled = time.monotonic() - self._started_s >= self._options.settle_s
        now = time.time()
        with self._database.reading() as connection:
            known = {key: each for key, each in conditions(connection).items() if each.kind in LOOKED_FOR}
            around = Around(
                connection=connection,
                sources=self._sources,
                known=known,
                now_us=now_us(),
                run_link=lambda run_id: f"{self._page}/runs/{run_id}",
            )
            look = look_for(kinds, around, is_settled=settled)
        begun, over = self._lasting.begun(known, look, now), ended(known.values(), look)
        if not begun and not over:
            return
        with self._database.writing() as connection:
            desk = Desk(connection=connection, rules=self._rules, channels=self._names, page=self._page)
            for trouble, since in begun:
                store_condition(connection, Condition(key=trouble.key, kind=trouble.kind, since=since))
                fields = {"since": since or None, **trouble.fields}
                desk.send(trouble.kind, trouble.about, trouble.title, **fields)
            for condition, relief in over:
                delete_condition(connection, condition.key)
                if relief is not None:
                    fields = {"since": condition.since or None, **relief.fields}
                    desk.send(Kind.RECOVERED, relief.about, relief.title, over=condition.kind, **fields)
        self._delivery.wake()

    @property
    def _names(self) -> list[str]:
        return [target.name for target in self._options.targets]
