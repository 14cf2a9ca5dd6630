"""Runs as their directories on this host tell of them: how they ended, what happened, and their journals."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flowherd.cli.top.picture import RunRow
from flowherd.cli.top.sources import LogEntry, RunPage
from flowherd.cli.top.stories import event_of, head_of, masked, process_lines
from flowherd.client.wanted_lines import LEVELS
from flowherd.host.delivery.journal_reader import read_batch, without_replaced
from flowherd.host.store.local_facts import LocalFacts, entries_of, leftovers, local_facts
from flowherd.host.store.run_directory import RunDirectory
from flowherd.host.verdict import of_exit_record
from flowherd.story.live import read_run_figures
from flowherd.story.order import Group, RunFacts, group_of
from flowherd.story.records import RunRecord
from flowherd.story.timeline import story
from flowherd.story.verdict import EndFacts, LiveFacts, kept_apart, verdict
from flowherd.times import read_time
from flowherd.values import LogLine
from flowherd.web.terminal_text import plain_text
from flowherd_runner.contract import files
from flowherd_runner.contract.spec import salvage_spec

#: Bytes at the end of a journal of which the last line of a run, and the last lines of its log, are made.
_LAST_LINE_BYTES, _LAST_LINES_BYTES = 16 * 1024, 4 * 1024 * 1024
#: Number of ended runs that are shown, the newest.
_MOST_ENDED = 100


class LocalRuns:
    """Reads run directories; what has ended does not change and is read once. Used by one thread."""

    def __init__(self) -> None:
        self._ended: dict[Path, RunRow | None] = {}
        #: The last line of a journal, with the size that the journal had.
        self._last_lines: dict[str, tuple[int, str]] = {}

    def ended(self, runs: Path, agent: str, running: Collection[str], now: datetime) -> list[RunRow]:
        """Return the runs that have ended and whose directories are kept, newest first."""
        found = []
        directories = [one for one in _directories(runs) if one.name not in running]
        self._ended = {one: row for one, row in self._ended.items() if one.parent != runs or one in directories}
        for directory in directories:
            if self._ended.get(directory) is None:
                self._ended[directory] = _ended_row(directory, agent, now)
            if (row := self._ended[directory]) is not None:
                found.append(row)
        found.sort(key=lambda row: -(row.ended.timestamp() if row.ended is not None else 0.0))
        return found[:_MOST_ENDED]

    def going(self, runs: Path, agent: str) -> list[RunRow]:
        """Return the runs that have not ended, as their directories tell, while no agent answers."""
        rows = []
        for directory in _directories(runs):
            if not (directory / files.EXIT_FILE).exists() and (facts := _facts(directory)).runner_alive:
                names = salvage_spec(facts.spec)
                rows.append(
                    RunRow(
                        id=directory.name,
                        name=names.flow_run_name,
                        flow=names.flow_name,
                        state="Running",
                        group=Group.RUNNING,
                        agent=agent,
                        started=_time(facts.started.get("started_at")),
                        last_line=self.last_line(directory, directory.name),
                        directory=str(directory),
                    )
                )
        return rows

    def last_line(self, directory: Path, run_id: str) -> str:
        """Return what a run has written last; empty if it has written nothing."""
        journal = directory / files.JOURNAL_FILE
        try:
            size = journal.stat().st_size
            known_size, line = self._last_lines.get(run_id, (0, ""))
            if size != known_size:
                lines, _ = read_batch(journal, run_id, max(0, size - _LAST_LINE_BYTES), _LAST_LINE_BYTES)
                texts = (plain_text(one.message).strip() for one in reversed(lines))
                line = next(filter(None, texts), line)
                self._last_lines[run_id] = (size, line)
        except OSError:
            return ""
        return line

    def page(self, row: RunRow, reported: Mapping[str, Any]) -> RunPage:
        """Return what the directory of a run tells; `reported` is what its agent shows of it."""
        directory = Path(row.directory)
        if not row.directory or not directory.exists():
            return RunPage(sentence=row.says or f"It is {row.state}.", no_processes="Its directory is gone.")
        facts = _facts(directory)
        run = _record(row, facts)
        spec = salvage_spec(facts.spec)
        end = _end_facts(facts) if run.finished else EndFacts()
        figures = read_run_figures([{"at": 0, **reported}]) if reported else []
        found = verdict(run, now=datetime.now(timezone.utc), end=end, live=LiveFacts(agent=row.agent))
        return RunPage(
            **head_of(found),
            events=[event_of(one) for one in story(None, (), (), entries_of(facts), row.agent)],
            processes=process_lines(figures[0].tree if figures else ()),
            no_processes="Its processes are not known." if row.is_live else "It has ended, and no process is left.",
            parameters=masked(spec.parameters),
            facts={"id": row.id, "directory": row.directory, **({"kind": spec.kind} if spec.kind else {})},
        )


def _directories(runs: Path) -> list[Path]:
    try:
        with os.scandir(runs) as entries:
            return [runs / entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _facts(directory: Path) -> LocalFacts:
    return local_facts(RunDirectory(directory, directory.name))


def _ended_row(directory: Path, agent: str, now: datetime) -> RunRow | None:
    """Return the row of a run that has ended; None if it has not, or its record cannot be read."""
    if not (directory / files.EXIT_FILE).exists():
        return None
    facts = _facts(directory)
    spec = salvage_spec(facts.spec)
    try:
        found = of_exit_record(facts.exit)
    except ValueError:
        return None
    started, ended = _time(facts.exit.get("started_at")), _time(facts.exit.get("ended_at"))
    row = RunFacts(flow=spec.flow_name, state=found.state.value, due=None, started=started, ended=ended)
    return RunRow(
        id=directory.name,
        name=spec.flow_run_name,
        flow=spec.flow_name,
        state=found.state.value,
        group=group_of(row, now),
        agent=agent,
        started=started,
        ended=ended,
        says=found.message,
        directory=str(directory),
    )


def _record(row: RunRow, facts: LocalFacts) -> RunRecord:
    return RunRecord(
        id=row.id,
        name=row.name,
        state=row.state,
        message=row.says or None,
        flow=row.flow,
        labels=(),
        agent_id=None,
        created=None,
        scheduled_start_time=None,
        start_time=row.started,
        end_time=row.ended,
    )


def _end_facts(facts: LocalFacts) -> EndFacts:
    ended = facts.exit
    return EndFacts(
        reason=str(ended.get("reason")),
        grade=str(ended.get("grade")),
        evidence=str(ended.get("evidence") or ""),
        leftovers=leftovers(facts),
        leftovers_count=count if isinstance(count := ended.get("leftovers_count"), int) else 0,
        kept_apart=kept_apart(str(ended.get("reason")), entries_of(facts)),
    )


def _time(text: object) -> datetime | None:
    try:
        return read_time(str(text), naive="utc") if text else None
    except ValueError:
        return None


class LocalRunReader:
    """Reads a run's journal on this host."""

    def __init__(self, directory: Path, run_id: str, level: str | None) -> None:
        self._journal = directory / files.JOURNAL_FILE
        self._run_id = run_id
        self._least = LEVELS[level] if level is not None else 0
        self._offset = 0

    def last(self, count: int) -> list[LogEntry]:
        """Return the last lines."""
        try:
            self._offset = max(0, self._journal.stat().st_size - _LAST_LINES_BYTES)
        except OSError:
            self._offset = 0
        found: list[LogEntry] = []
        while more := self.more():
            found = [*found, *more][-count:]
        return found

    def more(self) -> list[LogEntry]:
        """Return what has come since."""
        try:
            lines, self._offset = read_batch(self._journal, self._run_id, self._offset, _LAST_LINES_BYTES)
        except OSError:  # removed meanwhile, or another user's
            return []
        return [_entry(one) for one in without_replaced(lines) if one.level >= self._least and not one.so_far]


def _entry(one: LogLine) -> LogEntry:
    is_record = one.stream == "log"
    message = f"{one.logger}: {one.message}" if is_record else one.message
    return LogEntry(
        at=one.at, tag=logging.getLevelName(one.level) if is_record else one.stream, level=one.level, message=message
    )
