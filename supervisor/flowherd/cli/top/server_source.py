"""Asks a server of the dialect: flowherd's own, which also knows figures and reports of agents, or another one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flowherd.cli.runs.ps_columns import PsRow
from flowherd.cli.top.agent_requests import DONE, agents_here, ask_agent_here
from flowherd.cli.top.host_reading import HostReader
from flowherd.cli.top.picture import AgentRow, Figures, Picture, RunRow
from flowherd.cli.top.sources import LogEntry, LogReader, RunPage
from flowherd.cli.top.stories import page_of
from flowherd.cli.top.terms import Filter
from flowherd.client.run_list import Overview, facts_of
from flowherd.client.wanted_lines import WantedLines, level_number
from flowherd.errors import InvalidRequest, NotFound
from flowherd.states import TAKEN
from flowherd.story.agent_rows import agent_rows
from flowherd.story.order import MOST_FAILED, MOST_NEXT, Group, Line, cut, in_order

if TYPE_CHECKING:
    from flowherd.client.agents import AgentView
    from flowherd.client.logs import LogView, RunLog
    from flowherd.client.runs import RunView
    from flowherd.client.user_client import UserClient
    from flowherd.config import LoadedSettings
    from flowherd.story.agent_rows import AgentRow as KnownAgent

#: Number of runs that ended otherwise which are shown, of due ones, and of those that match a filter.
MOST_ENDED, _MOST_DUE, _MOST_MATCHING = 30, 200, 200
#: Time after which agents, and how long flows usually take, are asked for again, seconds.
_AGENTS_EVERY_S, _USUAL_EVERY_S = 3.0, 300.0
#: The same for what does not run, unless what runs has changed.
_ALL_EVERY_S = 5.0
#: An agent that was heard of longer ago is not shown.
_LATELY = timedelta(hours=24)
_NEVER = datetime.min.replace(tzinfo=timezone.utc)
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class ServerSource:
    """One server; used by one thread."""

    def __init__(self, client: UserClient, loaded: LoadedSettings) -> None:
        self._client = client
        self._loaded = loaded
        parts = urlsplit(client.address)
        self._host = HostReader(loaded.paths.home) if parts.hostname in _LOCAL else None
        self.title = self._host.name if self._host is not None else parts.netloc
        self._agents: Sequence[AgentView] = ()
        self._agents_s = self._usual_s = float("-inf")
        self._usual: dict[str, float] = {}
        #: What the last look has found, with which filter, and when all of it was asked for.
        self._found: Overview | None = None
        self._terms = Filter()
        self._found_s = 0.0

    def look(self, terms: Filter) -> Picture:
        """Return how things are."""
        now = datetime.now(timezone.utc)
        self._renew_agents()
        if self._found is not None:  # the first picture does not wait for it
            self._renew_usual()
        found = self._found = self._renewed(terms, now)
        most: dict[Group, int] = {}
        if terms.names_states:
            lines = in_order(found.runs, facts_of, now, fold=False)
        else:
            lines = in_order([*found.runs, *_others(found)], facts_of, now)
            most = {Group.FAILED: MOST_FAILED, Group.NEXT: MOST_NEXT, Group.ENDED: MOST_ENDED}
        shown = cut(lines, most, found.totals)
        rows = [self._row(one, found, now) for one in shown.shown]
        known = [row for row in agent_rows(self._agents, now) if row.state != "stopped" and _was_heard_lately(row, now)]
        return Picture(
            source=self.title,
            at=now,
            rows=[row for row in rows if terms.matches(row)],
            hidden=shown.hidden,
            agents=[_agent_row(row) for row in known],
            host=self._host.read() if self._host is not None else None,
            nothing="no runs match" if terms.terms else Picture.nothing,
        )

    def _renewed(self, terms: Filter, now: datetime) -> Overview:
        """Return what there is: what runs as it is now, and the rest anew if that has changed, or after a while."""
        wanted, is_same = terms.run_filter(self._agents), terms == self._terms
        if self._found is not None and is_same and time.monotonic() - self._found_s < _ALL_EVERY_S:
            running = self._client.run_list.running(wanted, now)
            others = [run for run in self._found.runs if run.state not in TAKEN]
            if {run.id for run in running.runs} == {run.id for run in self._found.runs} - {run.id for run in others}:
                return replace(self._found, runs=[*running.runs, *others], last_lines=running.last_lines)
        self._terms, self._found_s = terms, time.monotonic()
        if terms.names_states:
            return self._client.run_list.groups(wanted, now, _MOST_MATCHING)
        return self._client.run_list.overview(wanted, now, _MOST_DUE, ended=MOST_ENDED)

    def page(self, row: RunRow) -> RunPage:
        """Return what is known of a run."""
        self._renew_usual()
        return page_of(self._client, row.id, self._agents, self._usual.get(row.flow), row)

    def log(self, row: RunRow, level: str | None) -> LogReader:
        """Return a reader of a run's log."""
        return _ServerLog(self._client.log(row.id, WantedLines(level=level)))

    def cancel(self, run_ids: Sequence[str]) -> str:
        """Cancel runs."""
        self._found = None
        changes = self._client.run_changes.cancel(run_ids)
        done = sum(change.done for change in changes)
        ended = len(changes) - done
        return _counted("Cancelled", done) + (f"; {ended} had ended already" if ended else "")

    def retry(self, run_ids: Sequence[str]) -> str:
        """Start runs that have ended again."""
        self._found = None
        runs = self._client.runs.by_ids(run_ids)
        repeats = self._client.run_changes.repeat(runs, latest=False)
        new = [repeat.id for repeat in repeats if repeat.id is not None]
        problem = next((repeat.problem for repeat in repeats if repeat.problem), None)
        said = f"Started {new[0][:8]}" if len(new) == 1 else _counted("Started", len(new))
        return said + (f"; {len(repeats) - len(new)} not: {problem}" if problem else "")

    def ask_agent(self, name: str, action: str) -> str:
        """Have an agent do something: over its socket if it runs on this host, else over the server."""
        try:
            return ask_agent_here(name, action, agents_here(self._loaded))
        except NotFound:
            known = [agent for agent in self._agents if agent.name == name]
            if not known:
                raise
        newest = max(known, key=lambda agent: (agent.connected is True, agent.last_queried or _NEVER))
        refusal = self._client.agent_orders.ask(newest.id, action)
        if refusal:
            raise InvalidRequest(f"agent {name!r} refused: {refusal}")
        if refusal is None:
            return f"{name} has not answered yet; it will do it when it is heard of"
        return DONE[action].format(name)

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def _renew_agents(self) -> None:
        if time.monotonic() - self._agents_s >= _AGENTS_EVERY_S:
            self._agents = self._client.agents.with_runs()
            self._agents_s = time.monotonic()

    def _renew_usual(self) -> None:
        if time.monotonic() - self._usual_s >= _USUAL_EVERY_S:
            flows = self._client.flow_list.all()
            self._usual = {flow.name: flow.usual_s for flow in flows if flow.usual_s is not None}
            self._usual_s = time.monotonic()

    def _row(self, line: Line[RunView], found: Overview, now: datetime) -> RunRow:
        run = line.run
        name = next((agent.name for agent in self._agents if agent.id == run.agent_id), "")
        last_line = found.last_lines.get(run.id, "")
        ps_row = PsRow(
            line=line,
            now=now,
            agent=name,
            waits=self._waits(run, now) if line.group is Group.DUE else "",
            coming=found.coming.get(run.id),
        )
        return RunRow(
            id=run.id,
            name=run.name,
            flow=run.flow,
            state=run.state,
            group=line.group,
            count=line.count,
            agent=name,
            labels=run.labels,
            due=run.due,
            started=run.start_time,
            ended=run.end_time,
            usual_s=self._usual.get(run.flow),
            says=ps_row.says(),
            last_line=last_line,
            stuck=run.stuck,
            figures=_figures(run),
        )

    def _waits(self, run: RunView, now: datetime) -> str:
        from flowherd.story.waiting import run_waits

        return next(iter(run_waits(run, self._agents, {}, now)), "")


def _others(found: Overview) -> list[RunView]:
    """Return the runs that ended well between failures, without those that are shown anyway."""
    shown = {run.id for run in found.runs}
    return [run for run in found.between if run.id not in shown]


def _figures(run: RunView) -> Figures | None:
    known = run.figures
    if known is None:
        return None
    return Figures(
        cpu_percent=None if known.cpu_share is None else 100 * known.cpu_share,
        memory_bytes=known.memory_bytes,
        peak_bytes=known.peak_memory_bytes,
        limit_bytes=known.memory_limit_bytes,
        processes=known.processes,
    )


def _was_heard_lately(row: KnownAgent, now: datetime) -> bool:
    heard = row.agent.last_queried
    return row.agent.alive(now) or bool(row.runs) or (heard is not None and now - heard < _LATELY)


def _agent_row(row: KnownAgent) -> AgentRow:
    report = row.report
    disks = report.host_figures.disks if report.host_figures is not None else ()
    return AgentRow(
        name=row.agent.name,
        state=row.state,
        why=row.why(),
        runs=row.runs,
        limit=report.limit,
        labels=row.agent.labels,
        heard=row.agent.last_queried if row.state == "away" or not row.agent.connected else None,
        load=report.load,
        cpus=report.cpus,
        version=report.version,
        host=report.host,
        unsent_bytes=report.unsent_bytes,
        unsent_most_bytes=report.unsent_most_bytes,
        low_disks=[(disk.path, disk.free_bytes) for disk in disks if disk.is_low],
    )


class _ServerLog:
    """A run's log at the server."""

    def __init__(self, log: RunLog) -> None:
        self._log = log

    def last(self, count: int) -> list[LogEntry]:
        """Return the last lines."""
        return [_entry(one) for one in self._log.last_lines(count)]

    def more(self) -> list[LogEntry]:
        """Return what has come since."""
        return [_entry(one) for one in self._log.next_lines()]


def _entry(view: LogView) -> LogEntry:
    is_record = view.stream == "log"
    message = f"{view.logger}: {view.message}" if is_record else view.message
    return LogEntry(
        at=view.at, tag=view.level if is_record else view.stream, level=level_number(view.level), message=message
    )


def _counted(word: str, number: int) -> str:
    return f"{word} {number:,} run{'' if number == 1 else 's'}"
