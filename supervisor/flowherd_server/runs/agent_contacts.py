"""When each agent made its last request: kept in memory, and stored now and then in one transaction.

Storing it with each request would cost every poll and every wake a transaction of its own.
"""

from __future__ import annotations

import threading

from loguru import logger
from sqlalchemy import bindparam, update
from sqlalchemy.exc import SQLAlchemyError

from flowherd.recurring_error import RecurringError
from flowherd_server.store.database import Database
from flowherd_server.store.tables import AGENT

#: How often it is stored, seconds; a server that is killed loses what came in meanwhile.
STORE_INTERVAL_S = 5.0

_STORE = update(AGENT).where(AGENT.c.id == bindparam("agent")).values(last_queried=bindparam("at_us"))


class AgentContacts:
    """The times of the agents' last requests. Methods may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._unstored: dict[str, int] = {}
        self._storing = RecurringError("store when agents made their last requests", logger)

    def note(self, agent_id: str | None, at_us: int) -> None:
        """Note a request of an agent, if it was one."""
        if agent_id is not None:
            with self._lock:
                self._unstored[agent_id] = at_us

    def store(self) -> None:
        """Store what has come in. What cannot be stored now is kept; agents that were deleted are left out."""
        with self._lock:
            unstored, self._unstored = self._unstored, {}
        if not unstored:
            return
        rows = [{"agent": agent_id, "at_us": at_us} for agent_id, at_us in unstored.items()]
        try:
            with self._database.writing(durable=False) as connection:
                connection.execute(_STORE, rows)
        except SQLAlchemyError as error:
            self._storing.failed(error)
            with self._lock:
                self._unstored = {**unstored, **self._unstored}
        else:
            self._storing.recovered()
