"""The page of one run: how it is or how it ended, its facts, what happened, log, curve, processes, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import select

from flowherd.shown_text import one_line
from flowherd.states import FINISHED, TAKEN
from flowherd.story.live import Sample
from flowherd.story.records import AgentView, NoticeView, RunRecord, StateView, agent_name
from flowherd.story.timeline import StoryLine, events_of, story
from flowherd.story.verdict import LiveFacts, Verdict, end_facts, verdict
from flowherd.story.waiting import run_waits, tasks_wait
from flowherd.web.curve import CurvePoint, draw_curve
from flowherd.web.process_rows import process_rows
from flowherd_server.pages.frame import FIGURES, Ask, Page
from flowherd_server.pages.run_facts import facts_of
from flowherd_server.pages.run_log_part import log_part, new_lines
from flowherd_server.pages.run_lookup import flow_page_of, neighbours_of, run_of
from flowherd_server.pages.run_settings import parameters_of, settings_of
from flowherd_server.pages.run_tasks import tasks_of
from flowherd_server.runs.accounts import accounts_of, latest_account
from flowherd_server.runs.story_records import (
    agents_known,
    has_notices_after,
    notices_of,
    run_record,
    states_of,
    waiting_tasks_of,
)
from flowherd_server.store.log_codes import LEVEL_COUNTERS
from flowherd_server.store.microseconds import SECOND_US, to_datetime
from flowherd_server.store.plain import find_row
from flowherd_server.store.tables import FLOW, FLOW_RUN, FLOW_RUN_ATTEMPT

#: Columns that lines of its log change.
_OF_LINES = frozenset({"log_lines", *LEVEL_COUNTERS, "heartbeat", "updated"})
#: A curve that goes on has at most so many points, and at least half as many.
_POINTS = 80
#: How long after its end a run's page is kept up to date, seconds.
_LATE_LINES_S = 60


def run_page(ask: Ask) -> Page:
    """Return the page of the run that the path names."""
    run = run_of(ask)
    found = RunStory(ask, run)
    is_finished = run["state"] in FINISHED
    log = log_part(ask, run, found.unsent_bytes)
    title = one_line(f"{run['state']}: {found.flow['name']}, {run['name']}")
    values = {
        "run": run,
        "flow": found.flow,
        "title": title,
        "verdict": found.verdict,
        "facts": found.facts,
        "story": found.story,
        "log": log,
        **found.figures_shown,
        "tasks": tasks_of(ask.connection, run["id"]),
        **_lasting(ask, run, found.flow),
        "is_finished": is_finished,
        "is_stuck": bool(found.stuck),
    }
    # The last lines may come after the end.
    is_live = not is_finished or ask.now_us - (run["end_time"] or 0) < _LATE_LINES_S * SECOND_US
    figures = [] if is_finished else [f"{FIGURES}:{run['id']}"]
    topics = (f"run:{run['id']}", f"log:{run['id']}", *figures) if is_live else ()
    lines = new_lines(run["id"], log.view) if is_live and not log.view.request.is_chosen else None
    return Page(
        template="run.html",
        title=title,
        values=values,
        here="/runs",
        live=topics,
        lines=lines,
        refresh=None if is_finished else lambda later: _with_news(later, found),
    )


def _with_news(ask: Ask, found: RunStory) -> Page | None:
    """Return the parts that figures and lines change; None if more has changed."""
    was_stuck = found.stuck
    run = found.look_again(ask)
    if run is None or found.stuck != was_stuck:
        return None
    log = log_part(ask, run, found.unsent_bytes)
    values = {"verdict": found.verdict, "facts": found.facts, "log": log, **found.figures_shown}
    lines = None if log.view.request.is_chosen else new_lines(run["id"], log.view)
    return Page(template="run_news.html", title="", values=values, lines=lines)


def _lasting(ask: Ask, run: Mapping[str, Any], flow: Mapping[str, Any]) -> dict[str, Any]:
    """Return what does not change while somebody looks, and is not read again for that."""
    if ask.is_update:
        return {"flow_page": "", "parameters": [], "settings": [], "neighbours": dict.fromkeys(("before", "after"))}
    return {
        "flow_page": flow_page_of(ask, flow),
        "parameters": parameters_of(run, flow),
        "settings": settings_of(run, flow),
        "neighbours": neighbours_of(ask, run),
    }


class RunStory:
    """What the page says about a run, each part read when it is asked for."""

    def __init__(self, ask: Ask, run: Mapping[str, Any]) -> None:
        self._ask = ask
        self._run = run
        core = ask.core
        self._live = None
        if run["state"] in TAKEN:
            core.live.watch(run["id"])
            self._live = core.live.figures(run["id"])
        self._accounts = accounts_of(ask.connection, run["seq"])
        is_over = run["state"] in FINISHED
        self._account = latest_account(ask.connection, run["seq"], run["serialized_state"]) if is_over else None

    def look_again(self, ask: Ask) -> Mapping[str, Any] | None:
        """Take the run's new lines and figures, and return its row; None if something else has changed, too."""
        before, run = self._run, find_row(ask.connection, FLOW_RUN, self._run["id"])
        if run is None or any(run[name] != before[name] for name in run if name not in _OF_LINES):
            return None
        if has_notices_after(ask.connection, run["seq"], before["log_lines"]):
            return None
        self._ask, self._run, self._live = ask, run, ask.core.live.figures(run["id"])
        for name in ("stuck", "verdict", "record"):
            self.__dict__.pop(name, None)
        return run

    @cached_property
    def flow(self) -> dict[str, Any]:
        """The row of its flow, without the flow's document."""
        flow = find_row(self._ask.connection, FLOW, self._run["flow_id"], ("serialized_flow",))
        assert flow is not None, "the database keeps a flow while it has runs"
        return flow

    @cached_property
    def record(self) -> RunRecord:
        """The run as its story takes it."""
        return run_record(self._run, self.flow["name"])

    @cached_property
    def _states(self) -> Sequence[StateView]:
        return states_of(self._ask.connection, self._run["seq"])

    @cached_property
    def _notices(self) -> Sequence[NoticeView]:
        return notices_of(self._ask.connection, self._run["seq"], self._run["log_lines"])

    @cached_property
    def _attempts(self) -> Sequence[tuple[datetime, str | None]]:
        columns = FLOW_RUN_ATTEMPT.c.end_time, FLOW_RUN_ATTEMPT.c.agent_id
        query = select(*columns).where(FLOW_RUN_ATTEMPT.c.flow_run_id == self._run["id"])
        rows = self._ask.connection.execute(query).all() if self._run["attempt"] else []
        return [(to_datetime(row.end_time), row.agent_id) for row in rows if row.end_time is not None]

    @cached_property
    def _agents(self) -> Sequence[AgentView]:
        ids = [self._run["agent_id"], *(agent for _, agent in self._attempts)]
        is_connected = self._ask.core.board.is_connected
        return agents_known(self._ask.connection, self._ask.now_us, is_connected, ids)

    @property
    def agent(self) -> str | None:
        """Name of the agent that has claimed it."""
        return agent_name(self._agents, self._run["agent_id"])

    @cached_property
    def _usual_s(self) -> float | None:
        return self._ask.core.usual.of_flow(self._ask.connection, self._run["flow_id"])

    @cached_property
    def stuck(self) -> str:
        """Why it counts as stuck; empty if it does not."""
        return self._ask.core.stuck_runs.reason(self._ask.connection, self._run, self._ask.now)

    @cached_property
    def verdict(self) -> Verdict:
        """How it is, or how it ended."""
        record, now, live = self.record, self._ask.now, self._live
        if record.finished:
            last = self._states[-1] if self._states else None
            noted = (last.reason, last.grade) if last is not None else (None, None)
            return verdict(record, now=now, end=end_facts(record, *noted, self._account, self._notices))
        last_line_at = None if live is None else live.last_line_at
        facts = LiveFacts(
            agent=self.agent,
            usual_s=self._usual_s,
            stuck=self.stuck,
            last_line_at=None if last_line_at is None else to_datetime(round(last_line_at * 1_000_000)),
            memory_bytes=None if live is None else live.memory_bytes,
            memory_limit_bytes=None if live is None else live.memory_limit_bytes,
        )
        tasks = waiting_tasks_of(self._ask.connection, record.id)
        waits = [*run_waits(record, self._agents, {}, now), *tasks_wait(tasks, now)]
        return verdict(record, now=now, live=facts, waits=waits)

    @property
    def facts(self) -> Any:
        """The facts below the verdict."""
        return facts_of(
            self._run,
            agent=self.agent,
            usual_s=self._usual_s,
            figures=self._live,
            account=self._account,
        )

    @property
    def story(self) -> list[StoryLine]:
        """What happened to it."""
        earlier = {at: agent_name(self._agents, agent) for at, agent in self._attempts}
        events = [event for account in self._accounts for event in events_of(account)]
        return story(self.record, self._states, self._notices, events, self.agent, earlier)

    @property
    def unsent_bytes(self) -> int:
        """Output that its agent has and the server has not yet, of all its runs."""
        reports = self._ask.core.live.agents(self._run["agent_id"]) if self._run["agent_id"] else []
        return (reports[0].report.unsent_bytes or 0) if reports else 0

    @property
    def figures_shown(self) -> dict[str, Any]:
        """The curve and the processes: those of now, or the last ones of a run that has ended."""
        account, live = self._account, self._live
        if live is not None:
            samples, limit = _thinned(self._ask.core.live.history(self._run["id"])), live.memory_limit_bytes
            processes, seen_at_s = live.tree, live.at
        elif account is not None:
            samples, limit = account.samples, account.memory_limit_bytes
            processes, seen_at_s = account.processes, account.processes_at_s or 0.0
        else:
            return {"curve": None, "processes": None}
        points = [
            CurvePoint(each.at, each.memory_bytes, None if each.cpu_share is None else 100 * each.cpu_share)
            for each in samples
        ]
        rows = process_rows(processes)
        most = max((row.process.memory_bytes or 0 for row in rows), default=0)
        shown = Processes(
            rows=rows,
            count=len(processes),
            at=to_datetime(round(seen_at_s * 1_000_000)),
            is_live=live is not None,
            # Which one it was, if memory was what ended the run.
            blamed=most if any(state.reason == "memory_limit" for state in self._states[-1:]) else None,
        )
        return {"curve": draw_curve(points, limit), "processes": shown if rows else None}


def _thinned(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return the samples with which a curve that goes on is drawn: a new one changes it when it shows."""
    step = 1 << (len(samples) // _POINTS).bit_length()
    return samples[::step]


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The table of the processes."""

    rows: Sequence[Any]
    count: int
    at: datetime
    is_live: bool
    #: Memory of the process that is marked; None for none.
    blamed: int | None
