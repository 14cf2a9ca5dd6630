"""Agents that are sent the runs offered to them, with all that a start needs, as soon as these are due.

The thread that made a run due sends it, right after its commit: no other thread is in between. Usable from any thread.
Knows no sockets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loguru import logger
from sqlalchemy.exc import SQLAlchemyError

from flowherd.lane.messages import FOLLOWED, LIVE, OFFER, WAKE
from flowherd.story.live_news import LiveNews
from flowherd_server.errors import DatabaseLost
from flowherd_server.label_rule import labels_match
from flowherd_server.offers import DueRun, OfferBook, Passed


@dataclass(frozen=True, kw_only=True, eq=False)
class Subscription:
    """One agent that waits."""

    agent_id: str | None
    #: What tells it from other agents, which may be registered under the same id.
    holder: str
    labels: frozenset[str]
    #: Sends a push; never waits for the agent.
    push: Callable[[str, Mapping[str, Any]], None]


class Subscribers:
    """All subscriptions. `details` returns the rows of runs by their ids, and may read the database."""

    def __init__(self, offers: OfferBook, details: Callable[[Sequence[str]], list[dict[str, Any]]]) -> None:
        self._offers = offers
        self._details = details
        self._lock = threading.Lock()
        #: The latest subscription of each holder.
        self._of_holder: dict[str, Subscription] = {}

    def add(self, subscription: Subscription, room: int | None) -> None:
        """Add an agent with room for `room` runs; None means any number."""
        with self._lock:
            self._of_holder[subscription.holder] = subscription
        self._offers.begin_wait(subscription.holder, subscription.labels, room)

    def remove(self, subscription: Subscription) -> list[Passed]:
        """Remove an agent that is gone. Returns the runs that it was offered and has not claimed."""
        self._offers.end_wait(subscription.holder)
        with self._lock:
            if self._of_holder.get(subscription.holder) is not subscription:
                return []  # it has subscribed again
            del self._of_holder[subscription.holder]
        return self._offers.leave(subscription.holder)

    def is_connected(self, agent_id: str) -> bool:
        """Return whether the agent waits now."""
        return any(each.agent_id == agent_id for each in self._all())

    def agent_ids(self) -> set[str]:
        """Return the ids of the agents that wait."""
        return {each.agent_id for each in self._all() if each.agent_id is not None}

    def __contains__(self, holder: object) -> bool:
        return holder in self._of_holder

    def offer(self, runs: Mapping[str, Sequence[DueRun]]) -> None:
        """Send runs to the holders that they are offered to."""
        ids = [run.run_id for each in runs.values() for run in each]
        try:
            rows = {row["id"]: row for row in self._details(ids)}
        except (SQLAlchemyError, DatabaseLost) as error:
            logger.debug("due runs cannot be read, so agents are only woken: {}", error)
            rows = {}
        for holder, its_runs in runs.items():
            subscription = self._of_holder.get(holder)
            if subscription is None:
                continue  # what it was offered has passed on, or lapses
            found = [rows[run.run_id] for run in its_runs if run.run_id in rows]
            try:
                subscription.push(*(OFFER, {"flow_runs": found}) if found else (WAKE, {"ends": False}))
            except ValueError:  # larger than a frame may be
                subscription.push(WAKE, {"ends": False})

    def wake_agents(self, agent_ids: Collection[str]) -> None:
        """Wake the agents with these ids."""
        for each in self._all():
            if each.agent_id in agent_ids:
                each.push(WAKE, {"work": False})

    def wake_all(self) -> None:
        """Wake all agents."""
        for each in self._all():
            each.push(WAKE, {})

    def tell_followed(self, run_ids: Sequence[str], to: Subscription | None = None) -> None:
        """Tell all agents, or one, whose lines somebody waits for."""
        for each in self._all() if to is None else (to,):
            each.push(FOLLOWED, {"flow_run_ids": list(run_ids), "work": False, "ends": False})

    def tell_live(self, agent_ids: Collection[str], news: Callable[[str | None], LiveNews]) -> None:
        """Tell the agents with these ids what `news` returns for them."""
        for each in self._all():
            if each.agent_id in agent_ids:
                each.push(LIVE, {**news(each.agent_id).as_json(), "work": False, "ends": False})

    def wake_matching(self, kinds: Iterable[tuple[str, Collection[str]]]) -> None:
        """Wake the agents that may have room for one of these: labels of runs, each with whom it is not for."""
        kinds = list(kinds)
        for each in self._all():
            matches = any(not_for != each.holder and labels_match(labels, each.labels) for not_for, labels in kinds)
            if matches and self._offers.may_have_room(each.holder):
                each.push(WAKE, {"ends": False})

    def _all(self) -> list[Subscription]:
        with self._lock:
            return list(self._of_holder.values())
