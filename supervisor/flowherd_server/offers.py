"""Which due run is offered to which agent: a hint that keeps agents from trying to claim the same runs.

An offer reserves nothing: the run's version decides every claim, and agents that do not ask for offers see all runs.
An offer that is not taken passes on after HINT_S, or at once if its holder leaves. Offers are in memory only: after a
restart all runs are free. Usable from any thread. Knows no HTTP and no database.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from flowherd_server.label_rule import labels_match

#: How long an offer stands, seconds. An agent writes down and claims some twenty runs in a tenth of that.
HINT_S = 3.0
#: An agent counts as living for this time after its last request, seconds, if it does not wait for a wake.
_LIVING_S = 5.0
#: Maximum number of runs that one answer offers.
MOST_OFFERS = 100
#: Longest name under which an agent asks for offers, characters.
MAX_HOLDER_LENGTH = 100


class DueRun(NamedTuple):
    """A run that an agent with all of its labels may claim."""

    run_id: str
    #: Its version when it became due: it may be due again after it was claimed.
    version: int
    labels: Sequence[str]


@dataclass
class _Holder:
    """An agent that asks for offers, or waits to be woken."""

    labels: Collection[str]
    #: For how many runs it had room when it last asked; None means any number.
    room: int | None = None
    #: Number of offers that it was made since.
    given: int = 0
    #: Number of runs that it is offered now and has not claimed.
    open_offers: int = 0
    #: When it was last heard of (monotonic).
    seen_s: float = 0.0
    #: Number of its open waits.
    waits: int = 0
    #: Whether it asks for offers; agents of release 0.1.0 and Prefect's only look into the queue.
    asks: bool = False
    #: Whether it let an offer lapse and was not heard of since.
    is_silent: bool = False

    def may_take(self, labels: Collection[str]) -> bool:
        """Return whether one more run with these labels can be offered to it."""
        has_room = self.room is None or self.given < self.room
        return has_room and not self.is_silent and labels_match(labels, self.labels)


@dataclass
class _Offer:
    run: DueRun
    holder: str
    #: Whether it stands: it was not taken, and did not lapse.
    is_open: bool = True
    #: Whether the run was claimed. The offer is kept all the same, because an agent may ask at the same moment and
    #: read the run as it was before.
    is_taken: bool = False
    #: Whether it was not taken in time: for another HINT_S the run is for other agents only.
    has_lapsed: bool = False


@dataclass(frozen=True, kw_only=True)
class Passed:
    """A run whose offer was not taken, for other agents than `holder`; empty if it is for all again."""

    run: DueRun
    holder: str = ""


@dataclass
class OfferBook:
    """All offers and the agents that may get some. `clock` is monotonic."""

    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _offers: dict[str, _Offer] = field(default_factory=dict)
    #: Offers in the order in which they end; some were replaced meanwhile.
    _ends: deque[tuple[float, _Offer]] = field(default_factory=deque)
    #: Lapsed offers in the order in which they are forgotten.
    _lapsed: deque[tuple[float, _Offer]] = field(default_factory=deque)
    #: The agents, the one whose last offer is longest ago first.
    _holders: dict[str, _Holder] = field(default_factory=dict)

    # -- agents

    def begin_wait(self, key: str, labels: Collection[str], room: int | None) -> None:
        """Note that an agent waits. `room` counts unless it has asked this server: for how many runs it has room."""
        with self._lock:
            holder = self._heard_of(key, labels)
            holder.waits += 1
            if not holder.asks:
                holder.room, holder.given = room, 0

    def end_wait(self, key: str) -> None:
        """Note the end of a wait."""
        with self._lock:
            holder = self._holders.get(key)
            if holder is not None:
                holder.waits -= 1
                holder.seen_s = self.clock()

    def leave(self, key: str) -> list[Passed]:
        """Offer an agent that is gone nothing more. Returns the runs that it was offered and has not claimed."""
        with self._lock:
            if key in self._holders:
                self._holders[key].is_silent = True
            return self._release(key)

    def may_have_room(self, key: str) -> bool:
        """Return whether waking this agent may be of use: it is not known that it has no room."""
        with self._lock:
            holder = self._holders.get(key)
            return holder is None or holder.room != 0

    # -- offers

    def decline(self, key: str, labels: Collection[str]) -> list[Passed]:
        """Note that an agent takes no runs now. Returns the runs that it was offered and has not claimed."""
        with self._lock:
            holder = self._heard_of(key, labels)
            holder.room, holder.given, holder.asks = 0, 0, True
            return self._release(key)

    def ask(
        self,
        key: str,
        labels: Collection[str],
        room: int | None,
        due: Sequence[DueRun],
        busy: Collection[str] = (),
        passed: list[Passed] | None = None,
    ) -> list[str]:
        """Return the ids of the runs that are offered to an agent with room for `room` more; None means any number.

        `due` are the first runs that are due for it, soonest first. Those that nobody was offered yet are shared with
        the other living agents that can take them. It is claiming those in `busy` already; what else it was offered
        and does not get now, because it takes none with such labels at present, is free again and added to `passed`.
        """
        with self._lock:
            holder = self._heard_of(key, labels)
            holder.room, holder.given, holder.asks = room, 0, True
            own = {run.run_id for run in due if self._is_held_by(run.run_id, key)}
            free = [run for run in due if run.run_id not in own and self._is_free_for(run, key)]
            shared = {run.run_id for run in free[: self._share(key, free)]}
            most = MOST_OFFERS if room is None else min(room, MOST_OFFERS)
            chosen = [run for run in due if run.run_id in own or run.run_id in shared][:most]
            for run in chosen:
                if run.run_id not in own:
                    self._offer(run, key)
            holder.given = len(chosen)
            ids = [run.run_id for run in chosen]
            for run_id in [each for each in self._offers if self._is_held_by(each, key)]:
                if run_id not in ids and run_id not in busy:
                    if passed is not None:
                        passed.append(Passed(run=self._offers[run_id].run, holder=key))
                    self._drop(run_id)
            return ids

    def assign(self, run: DueRun) -> str | None:
        """Offer a run that has just become due to an agent that waits and can take it.

        Returns that agent's key, None if there is none, and an empty text if an agent that asked meanwhile has got it.
        """
        with self._lock:
            offer = self._offers.get(run.run_id)
            if offer is not None and offer.run.version >= run.version and set(offer.run.labels) == {*run.labels}:
                return ""
            self._drop(run.run_id)
            for key, holder in self._holders.items():
                if holder.waits > 0 and holder.may_take(run.labels):
                    holder.given += 1
                    self._offer(run, key)
                    return key
            return None

    def has_room(self, key: str, room: int | None) -> None:
        """Note for how many more runs an agent has room, those that it was offered counted in; None: any number."""
        with self._lock:
            holder = self._holders.get(key)
            if holder is not None:
                holder.room, holder.given, holder.asks = room, holder.open_offers, True
                holder.seen_s, holder.is_silent = self.clock(), False

    def taken(self, run_ids: Iterable[str]) -> None:
        """Note that runs were claimed, or can no longer be claimed."""
        with self._lock:
            for run_id in run_ids:
                offer = self._offers.get(run_id)
                if offer is not None:
                    self._close(offer)
                    offer.is_taken = True

    def before_asking(self, key: str, room: int | None) -> tuple[list[str], int]:
        """Return which runs cannot be offered to this agent now, and of how many others `ask` has to know."""
        with self._lock:
            untaken = [offer for offer in self._offers.values() if not offer.is_taken]
            others = [each.run.run_id for each in untaken if not self._is_mine_or_free(each, key)]
            shares = 1 + sum(self._is_living(one) for one in self._holders.values())
            return others, min(MOST_OFFERS, (MOST_OFFERS if room is None else room) * shares)

    def lapse(self) -> list[Passed]:
        """End the offers whose time is over. Returns the runs that nobody claimed, with whose offer has ended.

        A run is returned twice: first for other agents than the one that let it lapse, then for all.
        """
        with self._lock:
            now_s, passed = self.clock(), []
            for offer in self._due_of(self._ends, now_s):
                if offer.is_taken:
                    del self._offers[offer.run.run_id]
                elif not offer.has_lapsed:
                    passed.append(self._pass_on(offer))
                    if offer.holder in self._holders:
                        self._holders[offer.holder].is_silent = True
            for offer in self._due_of(self._lapsed, now_s):
                del self._offers[offer.run.run_id]
                if not offer.is_taken:
                    passed.append(Passed(run=offer.run))
            return passed

    def next_lapse_s(self) -> float | None:
        """Return when `lapse` has something to do (monotonic), or None."""
        with self._lock:
            return min((ends[0][0] for ends in (self._ends, self._lapsed) if ends), default=None)

    # -- inside, with the lock held

    def _heard_of(self, key: str, labels: Collection[str]) -> _Holder:
        holder = self._holders.get(key)
        if holder is None:
            self._forget_absent()
            holder = self._holders[key] = _Holder(frozenset(labels))
        holder.labels, holder.seen_s, holder.is_silent = frozenset(labels), self.clock(), False
        return holder

    def _forget_absent(self) -> None:
        for key in [key for key, holder in self._holders.items() if not self._is_living(holder)]:
            del self._holders[key]

    def _is_living(self, holder: _Holder) -> bool:
        return holder.waits > 0 or self.clock() - holder.seen_s < _LIVING_S

    def _share(self, key: str, free: Sequence[DueRun]) -> int:
        """Return how many of the free runs are for this agent, beside those that could take the first and have none."""
        if not free:
            return 0
        others = self._others_able(key, free[0].labels)
        return -(-len(free) // (1 + sum(not other.open_offers for other in others)))

    def _others_able(self, key: str, labels: Collection[str]) -> list[_Holder]:
        others = (holder for other, holder in self._holders.items() if other != key)
        return [holder for holder in others if self._is_living(holder) and holder.may_take(labels)]

    def _is_held_by(self, run_id: str, key: str) -> bool:
        offer = self._offers.get(run_id)
        return offer is not None and offer.holder == key and offer.is_open

    def _is_free_for(self, run: DueRun, key: str) -> bool:
        offer = self._offers.get(run.run_id)
        if offer is None or offer.run.version < run.version:
            return True
        if offer.is_taken or not offer.has_lapsed:
            return False
        return offer.holder != key or not self._others_able(key, offer.run.labels)

    def _is_mine_or_free(self, offer: _Offer, key: str) -> bool:
        return self._is_held_by(offer.run.run_id, key) or self._is_free_for(offer.run, key)

    def _offer(self, run: DueRun, key: str) -> None:
        self._drop(run.run_id)
        offer = self._offers[run.run_id] = _Offer(run, key)
        self._ends.append((self.clock() + HINT_S, offer))
        holder = self._holders[key] = self._holders.pop(key)
        holder.open_offers += 1

    def _drop(self, run_id: str) -> None:
        """Forget the offer of a run, if there is one: the run is free."""
        offer = self._offers.pop(run_id, None)
        if offer is not None:
            self._close(offer)

    def _close(self, offer: _Offer) -> None:
        """Let an offer stand no longer."""
        if offer.is_open and offer.holder in self._holders:
            self._holders[offer.holder].open_offers -= 1
        offer.is_open = False

    def _release(self, key: str) -> list[Passed]:
        held = [offer for run_id, offer in self._offers.items() if self._is_held_by(run_id, key)]
        return [self._pass_on(offer) for offer in held]

    def _pass_on(self, offer: _Offer) -> Passed:
        self._close(offer)
        offer.has_lapsed = True
        self._lapsed.append((self.clock() + HINT_S, offer))
        return Passed(run=offer.run, holder=offer.holder)

    def _due_of(self, ends: deque[tuple[float, _Offer]], now_s: float) -> list[_Offer]:
        """Remove what has ended from `ends`, and return of it the offers that still count."""
        over = []
        while ends and ends[0][0] <= now_s:
            offer = ends.popleft()[1]
            if self._offers.get(offer.run.run_id) is offer:
                over.append(offer)
        return over
