"""Asks the agents of this host over their control sockets, and reads the directories of their runs.

For a Prefect 3 pool, and while no server answers: an agent knows its runs, and what they write, whatever its backend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowherd.cli.agent.agent_client import AgentClient
from flowherd.cli.agent.lock_holder import agent_pid
from flowherd.cli.failures import CommandError
from flowherd.cli.top.agent_requests import agents_here, ask_agent_here
from flowherd.cli.top.columns import SHORT_ID
from flowherd.cli.top.host_reading import HostReader
from flowherd.cli.top.local_runs import LocalRunReader, LocalRuns
from flowherd.cli.top.picture import AgentRow, Figures, Picture, RunRow
from flowherd.cli.top.sources import LogReader, RunPage
from flowherd.cli.top.terms import Filter
from flowherd.errors import InvalidRequest
from flowherd.host.store.state_names import RUNS_DIRECTORY
from flowherd.story.live import read_run_figures
from flowherd.story.order import Group
from flowherd.times import read_time

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings

#: Number of earlier figures of a run that are shown.
_MOST_SAMPLES = 120


class AgentsSource:
    """The agents of this host, or the one with the state directory `only`; used by one thread."""

    def __init__(self, loaded: LoadedSettings, only: Path | None = None) -> None:
        self._loaded = loaded
        self._only = only
        self._host = HostReader(only or loaded.paths.home)
        self._local = LocalRuns()
        #: CPU and memory of the running runs at the last looks, by their ids.
        self._history: dict[str, tuple[list[float], list[float]]] = {}
        #: Run whose processes an agent is asked for.
        self._looked_at = ""
        self._known: dict[str, Mapping[str, Any]] = {}
        self.title = self._host.name

    def look(self, terms: Filter) -> Picture:
        """Return how things are. Raises CommandError if no agent has ever run here."""
        now = datetime.now(timezone.utc)
        agents: list[AgentRow] = []
        rows: list[RunRow] = []
        self._known = {}
        for place in self._places():
            agent, running = self._ask(place)
            agents.append(agent)
            rows += running
            rows += self._local.ended(place / RUNS_DIRECTORY, agent.name, {row.id for row in running}, now)
        if not agents:
            raise CommandError(f"no agent runs on this host for {self._loaded.paths.home}; start one: `flowherd start`")
        self._history = {run_id: kept for run_id, kept in self._history.items() if run_id in self._known}
        return Picture(
            source=self.title,
            at=now,
            rows=[row for row in sorted(rows, key=_place) if terms.matches(row)],
            agents=agents,
            host=self._host.read(),
            nothing="no runs match" if terms.terms else "no runs are running here, and none has ended lately",
        )

    def page(self, row: RunRow) -> RunPage:
        """Return what the run's directory tells, and its processes."""
        self._looked_at = row.id
        return self._local.page(row, self._known.get(row.id, {}))

    def log(self, row: RunRow, level: str | None) -> LogReader:
        """Return a reader of the run's journal."""
        return LocalRunReader(Path(row.directory), row.id, level)

    def cancel(self, run_ids: Sequence[str]) -> str:
        """Refuse: only the server of the runs can cancel them."""
        raise InvalidRequest(f"use {self._way('cancel', run_ids)}: agents leave it to the server to cancel runs")

    def retry(self, run_ids: Sequence[str]) -> str:
        """Refuse: only the server of the runs can start them again."""
        raise InvalidRequest(f"use {self._way('retry', run_ids)}: agents leave it to the server to run them again")

    def ask_agent(self, name: str, action: str) -> str:
        """Have an agent pause, resume, drain or restart."""
        return ask_agent_here(name, action, self._places())

    def close(self) -> None:
        """There is no connection to end."""

    def _places(self) -> list[Path]:
        if self._only is not None:
            return [self._only]
        return agents_here(self._loaded)

    def _way(self, action: str, run_ids: Sequence[str]) -> str:
        if self._loaded.settings.uses_work_pool:
            return f"`prefect flow-run {action} {run_ids[0]}`"
        return f"`flowherd {action} {run_ids[0][:SHORT_ID]}`"

    def _ask(self, place: Path) -> tuple[AgentRow, list[RunRow]]:
        """Return an agent and its running runs; without an answer what its directories tell."""
        client = AgentClient.in_directory(place, place.name)
        facts = client.look()
        if facts is None:
            return self._silent(place)
        runs = client.runs(processes_of=[self._looked_at] if self._looked_at else ())
        self._known |= {run["id"]: run for run in runs}
        status = facts["status"]
        report = facts["report"] if isinstance(facts.get("report"), dict) else {}
        agent = AgentRow(
            name=facts["agent"],
            state="connected" if status == "ok" else status,
            why=facts["reason"],
            runs=facts["runs"],
            limit=facts.get("limit") if isinstance(facts.get("limit"), int) else None,
            version=str(report.get("version") or ""),
            host=self.title,
            unsent_bytes=facts.get("spool_bytes") if isinstance(facts.get("spool_bytes"), int) else None,
        )
        return agent, [self._running(run, agent.name, place) for run in runs]

    def _silent(self, place: Path) -> tuple[AgentRow, list[RunRow]]:
        pid = agent_pid(place)
        why = "it does not answer" if pid is not None else "it does not run; its runs go on"
        rows = self._local.going(place / RUNS_DIRECTORY, place.name)
        return AgentRow(name=place.name, state="away", why=why, runs=len(rows), host=self.title), rows

    def _running(self, run: Mapping[str, Any], agent: str, place: Path) -> RunRow:
        run_id = str(run["id"])
        directory = place / RUNS_DIRECTORY / run_id
        return RunRow(
            id=run_id,
            name=str(run.get("name") or ""),
            flow=str(run.get("flow") or ""),
            state=str(run.get("state") or "Running"),
            group=Group.RUNNING,
            agent=agent,
            started=_time(run.get("started_at") or run.get("deployed_at")),
            last_line=self._local.last_line(directory, run_id),
            says=f"asked to end: {run['stopping']}" if run.get("stopping") else "",
            figures=self._figures(run_id, run),
            directory=str(directory),
        )

    def _figures(self, run_id: str, run: Mapping[str, Any]) -> Figures | None:
        # An agent of an earlier release has no "at" among its figures.
        found = read_run_figures([{"at": 0, **run}])
        if not found:
            return None
        figures = found[0]
        cpu, memory = self._history.setdefault(run_id, ([], []))
        if figures.cpu_share is not None:
            cpu.append(100 * figures.cpu_share)
        if figures.memory_bytes is not None:
            memory.append(float(figures.memory_bytes))
        del cpu[:-_MOST_SAMPLES], memory[:-_MOST_SAMPLES]
        return Figures(
            cpu_percent=None if figures.cpu_share is None else 100 * figures.cpu_share,
            memory_bytes=figures.memory_bytes,
            peak_bytes=figures.peak_memory_bytes,
            limit_bytes=figures.memory_limit_bytes,
            processes=figures.processes,
            cpu_history=list(cpu),
            memory_history=list(memory),
        )


def _place(row: RunRow) -> tuple[int, float]:
    """Return the sort key of a row: what runs, what failed lately, and the rest."""
    groups = list(Group)
    if row.group is Group.RUNNING:
        return groups.index(row.group), row.started.timestamp() if row.started is not None else 0.0
    return groups.index(row.group), -(row.ended.timestamp() if row.ended is not None else 0.0)


def _time(text: object) -> datetime | None:
    try:
        return read_time(str(text), naive="utc") if text else None
    except ValueError:
        return None
