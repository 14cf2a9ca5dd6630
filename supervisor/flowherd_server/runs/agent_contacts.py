"""When each agent made its last request, and what it last reported of itself: kept in memory, and stored now and then.

Storing it with each request would cost every poll and every wake a transaction of its own.
"""

from __future__ import annotations

import threading
from typing import Any

from loguru import logger
from sqlalchemy import bindparam, update
from sqlalchemy.exc import SQLAlchemyError

from flowherd.recurring_error import RecurringError
from flowherd.shown_text import storable
from flowherd.story.agent_report import read_agent_report
from flowherd_server.store.database import Database
from flowherd_server.store.tables import AGENT

#: How often it is stored, seconds; a server that is killed loses what came in meanwhile.
STORE_INTERVAL_S = 5.0

_STORE = update(AGENT).where(AGENT.c.id == bindparam("agent")).values(last_queried=bindparam("at_us"))
_STORE_REPORT = (
    update(AGENT)
    .where(AGENT.c.id == bindparam("agent"))
    .values(report=bindparam("content"), reported=bindparam("at_us"))
)
#: Maximum length of a text in a report, characters.
_MAX_TEXT = 500


class AgentContacts:
    """The times of the agents' last requests, and their last reports. Methods may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._unstored: dict[str, int] = {}
        self._unstored_reports: dict[str, tuple[dict[str, Any], int]] = {}
        self._storing = RecurringError("store when agents made their last requests", logger)

    def note(self, agent_id: str | None, at_us: int, report: Any = None) -> None:
        """Note a request of an agent, if it was one, and what the agent reports of itself with it."""
        if agent_id is None:
            return
        content = None if report is None else _kept(report)
        with self._lock:
            self._unstored[agent_id] = at_us
            if content is not None:
                self._unstored_reports[agent_id] = content, at_us

    def store(self) -> None:
        """Store what has come in. What cannot be stored now is kept; agents that were deleted are left out."""
        with self._lock:
            unstored, self._unstored = self._unstored, {}
            reports, self._unstored_reports = self._unstored_reports, {}
        if not unstored:
            return
        rows = [{"agent": agent_id, "at_us": at_us} for agent_id, at_us in unstored.items()]
        new = [{"agent": agent_id, "content": content, "at_us": at} for agent_id, (content, at) in reports.items()]
        try:
            with self._database.writing(durable=False) as connection:
                connection.execute(_STORE, rows)
                if new:
                    connection.execute(_STORE_REPORT, new)
        except SQLAlchemyError as error:
            self._storing.failed(error)
            with self._lock:
                self._unstored = {**unstored, **self._unstored}
                self._unstored_reports = {**reports, **self._unstored_reports}
        else:
            self._storing.recovered()


def _kept(report: Any) -> dict[str, Any] | None:
    """Return what is kept of a report, whatever was sent; None if it is none."""
    known = read_agent_report(report)
    if known is None:
        return None
    return {name: _storable(value) for name, value in known.as_json().items()}


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value[:_MAX_TEXT])
    if isinstance(value, dict):
        return {name: _storable(one) for name, one in value.items()}
    return [_storable(one) for one in value] if isinstance(value, list) else value
