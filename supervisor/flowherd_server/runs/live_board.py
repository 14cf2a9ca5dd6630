"""What agents report while runs go: the newest report of each agent, the figures of each running run with a short
history, and whether somebody looks. In memory only, so a restarted server knows nothing until the agents report again.

Agents report every minute. While somebody watches (`watch`) they do so every two seconds, and once at once. Without
that, nothing is done but to keep what comes. Usable from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flowherd.story.agent_report import AgentReport, read_agent_report
from flowherd.story.live import RunFigures, Sample, read_run_figures
from flowherd.story.live_news import Action, LiveNews
from flowherd_server.errors import Refused
from flowherd_server.runs.agent_orders import AgentOrders

#: How long `watch` holds, seconds. Who goes on watching calls it again before that.
WATCH_S = 10.0
#: An agent that has reported for no longer than this is known, seconds: two reports may be lost.
KEEP_S = 150.0
#: How far a run's history goes back at most, seconds, and how many samples it has at most.
HISTORY_S, MOST_SAMPLES = 3600.0, 240
#: Minimum time between two samples of a run, seconds; it doubles when there are too many.
_FIRST_STEP_S = 1.5
#: A report that is younger than this is new enough for one look, seconds.
_FRESH_S = 3.0


@dataclass(frozen=True, kw_only=True)
class LiveAgent:
    """The newest report of one agent that lives."""

    #: Id under which it is registered; other agents may have the same.
    agent_id: str
    report: AgentReport
    #: When the report came, seconds since the epoch.
    at: float
    #: Whether it reports every two seconds while somebody watches, and answers orders.
    is_live: bool = False


@dataclass
class _Run:
    """What is known of one running run."""

    #: Key of the agent that has it.
    agent: str
    figures: RunFigures
    #: When they came (monotonic).
    seen_s: float
    samples: list[Sample] = field(default_factory=list)
    step_s: float = _FIRST_STEP_S

    def add(self, figures: RunFigures, now_s: float) -> None:
        self.figures, self.seen_s = figures, now_s
        if self.samples and figures.at - self.samples[-1].at < self.step_s:
            return
        self.samples.append(Sample(figures.at, figures.memory_bytes, figures.cpu_share))
        if self.samples[0].at < figures.at - HISTORY_S:
            self.samples = [one for one in self.samples if one.at >= figures.at - HISTORY_S]
        if len(self.samples) > MOST_SAMPLES:
            self.samples = self.samples[::2]
            self.step_s *= 2


class LiveBoard:
    """The newest reports.

    `on_watch` is called when somebody begins to watch, or looks at another run, and `on_order` with the id under which
    an agent is registered when it is asked something.
    """

    def __init__(
        self, on_watch: Callable[[], None] = lambda: None, on_order: Callable[[str], None] = lambda _agent_id: None
    ) -> None:
        #: Whether agents may be asked to stop or start again: only at a server that asks its clients for a token.
        self.may_stop_agents = False
        #: What agents have been asked.
        self.orders = AgentOrders(on_order)
        #: Called after each report while somebody watches, with the ids of the runs whose figures have changed.
        self.on_report: Callable[[Sequence[str]], None] = lambda _run_ids: None
        self._on_watch = on_watch
        self._changed = threading.Condition()
        self._agents: dict[str, LiveAgent] = {}
        self._runs: dict[str, _Run] = {}
        #: Until when somebody watches (monotonic), in all and by the id of the run that is looked at.
        self._watched_until_s = 0.0
        self._looked_at: dict[str, float] = {}

    # -- what is known

    def figures(self, run_id: str) -> RunFigures | None:
        """Return the newest figures of a run; None if none came lately, or if it is known to have ended."""
        run = self._runs.get(run_id)
        return run.figures if run is not None and time.monotonic() - run.seen_s < KEEP_S else None

    def history(self, run_id: str) -> Sequence[Sample]:
        """Return the curve of a run that goes on, oldest first: one hour and 240 samples at most."""
        run = self._runs.get(run_id)
        return list(run.samples) if run is not None else []

    def agents(self, agent_id: str | None = None) -> list[LiveAgent]:
        """Return the newest report of each agent that has reported lately, or of those with this id, newest first."""
        since = time.time() - KEEP_S
        with self._changed:
            known = list(self._agents.values())
        found = [one for one in known if one.at >= since and agent_id in (None, one.agent_id)]
        return sorted(found, key=lambda one: one.at, reverse=True)

    # -- whether somebody looks

    def watch(self, run_id: str | None = None) -> None:
        """Have agents report every two seconds for some seconds, with the processes of `run_id` if one is named."""
        now_s = time.monotonic()
        with self._changed:
            begins = self._watched_until_s <= now_s
            self._watched_until_s = now_s + WATCH_S
            if run_id is not None:
                begins = begins or self._looked_at.get(run_id, 0.0) <= now_s
                self._looked_at = {one: until_s for one, until_s in self._looked_at.items() if until_s > now_s}
                self._looked_at[run_id] = now_s + WATCH_S
        if begins:
            self._on_watch()

    @property
    def is_watched(self) -> bool:
        """Whether somebody watches now."""
        return self._watched_until_s > time.monotonic()

    def looked_at(self) -> list[str]:
        """Return the ids of the runs whose processes somebody looks at now."""
        now_s = time.monotonic()
        with self._changed:
            return sorted(run_id for run_id, until_s in self._looked_at.items() if until_s > now_s)

    def ask_for_figures(self, timeout_s: float, is_connected: Callable[[str], bool] = lambda _agent_id: True) -> None:
        """Watch, and wait until the agents have reported if the last reports are old; `timeout_s` at most.

        Only for agents that are connected, by the ids under which they are registered.
        """
        begins_s, was_watched = time.time(), self.is_watched
        old = {key: agent for key, agent in self._living().items() if agent.at < begins_s - _FRESH_S}
        waits_for = {key for key, agent in old.items() if not was_watched and is_connected(agent.agent_id)}
        self.watch()
        if waits_for:
            with self._changed:
                self._changed.wait_for(
                    lambda: all(agent.at >= begins_s for key, agent in self._living().items() if key in waits_for),
                    timeout_s,
                )

    def _living(self) -> dict[str, LiveAgent]:
        """Return those agents that report while somebody watches, and are not away."""
        since = time.time() - KEEP_S
        return {key: agent for key, agent in list(self._agents.items()) if agent.at >= since and agent.is_live}

    # -- what agents are asked

    def news(self, agent_id: str | None) -> LiveNews:
        """Return what an agent is asked now, beside runs."""
        orders = self.orders.pending(agent_id)
        watched = self.is_watched
        return LiveNews(watched=watched, looked_at=tuple(self.looked_at()) if watched else (), orders=orders)

    def ask(self, agent_id: str, name: str | None, action: Action, deadline_s: float | None) -> str:
        """Ask an agent something, and return the order's id (`orders.outcome`). Raises Refused."""
        whom = f"agent {name or agent_id}"
        if action in (Action.DRAIN, Action.RESTART) and not self.may_stop_agents:
            raise Refused(
                f"{whom}: over a server without a token agents cannot be asked to {action.value}; set server.token, "
                f"or use `flowherd {action.value}` on the agent's host"
            )
        living = {key: agent for key, agent in self._living().items() if agent.agent_id == agent_id}
        if not living:
            raise Refused(
                f"{whom} has not reported in the last {KEEP_S:.0f} s: it is away, or of an older release; use "
                f"`flowherd {action.value}` on its host"
            )
        refusing = next((agent for agent in living.values() if not agent.report.remote), None)
        if refusing is not None:
            raise Refused(
                f"{whom} takes no orders from its server (agent.remote is off); use `flowherd {action.value}` on "
                f"{refusing.report.host or 'its host'}"
            )
        return self.orders.add(agent_id, living.keys(), action, deadline_s)

    # -- what comes in

    def note(self, agent_id: str | None, report: Any) -> None:
        """Take an agent's report, whatever was sent."""
        known = read_agent_report(report) if agent_id is not None else None
        if agent_id is None or known is None or not isinstance(report, Mapping):
            return
        key = known.instance or agent_id
        now_s = time.monotonic()
        figures = read_run_figures(report["run_figures"]) if "run_figures" in report else None
        changed: list[str] = []
        with self._changed:
            is_live = isinstance(report.get("outcomes"), Mapping)
            self._agents[key] = LiveAgent(agent_id=agent_id, report=known, at=time.time(), is_live=is_live)
            if figures is not None:
                changed = self._changed_ones(figures) if self.is_watched else []
                self._take(key, figures, now_s)
            self._changed.notify_all()
        if self.is_watched:
            self.on_report(changed)
        self.orders.settle(key, report.get("outcomes"))

    def forget(self, run_ids: Iterable[str]) -> None:
        """Forget runs that have ended."""
        if self._runs:
            with self._changed:
                for run_id in run_ids:
                    self._runs.pop(run_id, None)

    def _changed_ones(self, reported: Sequence[RunFigures]) -> list[str]:
        """Return the ids of the runs of which more has changed than the time of the figures."""
        known = self._runs
        return [
            one.id for one in reported if (run := known.get(one.id)) is None or replace(run.figures, at=one.at) != one
        ]

    def _take(self, key: str, reported: Sequence[RunFigures], now_s: float) -> None:
        new = {one.id: one for one in reported}
        for run_id, known in list(self._runs.items()):
            if (known.agent == key and run_id not in new) or now_s - known.seen_s > KEEP_S:
                del self._runs[run_id]
        for run_id, figures in new.items():
            run = self._runs.setdefault(run_id, _Run(key, figures, now_s))
            run.agent = key
            run.add(figures, now_s)
        for other in [one for one, agent in self._agents.items() if time.time() - agent.at > KEEP_S]:
            del self._agents[other]
