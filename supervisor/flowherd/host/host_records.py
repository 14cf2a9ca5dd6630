"""The runs of this host for the agent's own pages: from the registry, and from the directories of those that ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from flowherd.agent.run_records import JournalPart, KnownRun
from flowherd.errors import RunDirectoryDamaged
from flowherd.host.delivery.journal_reader import read_batch
from flowherd.host.run import Run
from flowherd.host.run_registry import RunRegistry
from flowherd.host.run_stats import run_figures
from flowherd.host.store.journal_end import journal_bytes
from flowherd.host.store.local_facts import entries_of, local_facts
from flowherd.host.store.run_directory import RunDirectory
from flowherd.host.store.state_directory import StateDirectory
from flowherd.states import FINISHED
from flowherd.story.account import read_account
from flowherd.story.timeline import TimelineEntry, events_of, timeline
from flowherd.times import read_time
from flowherd_runner.contract.spec import RunSpec, salvage_spec

#: Maximum number of ended runs that are listed.
_MOST_ENDED = 100
_EARLIEST = datetime.min.replace(tzinfo=timezone.utc)


class HostRecords:
    """The runs in `registry` and in the run directories of `state`."""

    def __init__(self, registry: RunRegistry, state: StateDirectory) -> None:
        self._registry = registry
        self._state = state

    def living(self) -> Sequence[KnownRun]:
        """Return the runs that have not ended, longest first."""
        found = [_of_run(run) for run in self._registry.living()]
        return sorted(found, key=lambda run: run.started_at or datetime.max.replace(tzinfo=timezone.utc))

    def ended(self) -> Sequence[KnownRun]:
        """Return the newest runs that have ended: of this agent's life, and those whose directories are kept."""
        found = {run.id: _of_run(run) for run in (*self._registry.gone, *self._registry) if run.ended}
        with contextlib.suppress(OSError):  # another program has removed the directory of the runs
            others = [each for each in self._state.found_runs() if each.flow_run_id not in self._registry]
            for directory in sorted(others, key=RunDirectory.ended_at, reverse=True)[:_MOST_ENDED]:
                if directory.flow_run_id not in found and (run := _of_directory(directory)) is not None:
                    found[run.id] = run
        newest = sorted(found.values(), key=lambda run: run.ended_at or _EARLIEST, reverse=True)
        return newest[:_MOST_ENDED]

    def get(self, run_id: str) -> KnownRun | None:
        """Return one run, with its processes if it goes on."""
        run = self._run(run_id)
        if run is not None:
            return _of_run(run, with_tree=True)
        directory = self._directory(run_id)
        return None if directory is None or not directory.is_directory() else _of_directory(directory)

    def history(self, run_id: str) -> Sequence[TimelineEntry]:
        """Return what happened to a run on this host."""
        run, directory = self._run(run_id), self._directory(run_id)
        if directory is not None and directory.is_directory():
            return timeline(None, (), (), entries_of(local_facts(directory)))
        account = read_account(run.reported_end.account) if run is not None and run.reported_end is not None else None
        return timeline(None, (), (), events_of(account))

    def journal(self, run_id: str, offset: int, max_bytes: int) -> JournalPart | None:
        """Return lines of a run's journal."""
        directory = self._directory(run_id)
        if directory is None or not directory.is_directory():
            return None
        size = journal_bytes(directory.journal)
        begin = offset if offset >= 0 else max(0, size + offset)
        lines, end = read_batch(directory.journal, run_id, begin, max_bytes)
        return JournalPart(lines, end, size)

    def _run(self, run_id: str) -> Run | None:
        gone = next((run for run in self._registry.gone if run.id == run_id), None)
        return self._registry.get(run_id) or gone

    def _directory(self, run_id: str) -> RunDirectory | None:
        try:
            return self._state.run_directory(run_id)
        except ValueError:  # no id
            return None


def _of_run(run: Run, *, with_tree: bool = False) -> KnownRun:
    end = run.reported_end
    account = read_account(end.account) if end is not None else None
    known = KnownRun(
        id=run.id,
        name=run.name,
        flow=run.flow_name,
        state=run.state.value,
        started_at=run.started_at or run.deployed_at,
        samples=run.history.samples,
        account=account,
        **_of_spec(run.spec),
    )
    if not run.ended:
        return replace(known, figures=run_figures(run, with_tree=with_tree))
    ended_at = end.at if end is not None else None
    evidence = account.evidence if account is not None else ""
    if end is None:
        return known
    return replace(
        known, message=end.message, ended_at=ended_at, reason=end.reason or "", grade=end.grade or "", evidence=evidence
    )


def _of_directory(directory: RunDirectory) -> KnownRun | None:
    """Return the run of a directory; None unless the end of one can be read there."""
    try:
        outbox = directory.outbox()
    except RunDirectoryDamaged:
        return None
    local = local_facts(directory)
    spec, record, account = salvage_spec(local.spec), local.exit, local.account
    if not outbox.final or outbox.state not in FINISHED:
        return None
    end = next((report for report in reversed(outbox.reports) if report.state is outbox.state), None)
    evidence = str(record.get("evidence") or (account.evidence if account is not None else ""))
    return KnownRun(
        id=directory.flow_run_id,
        name=spec.flow_run_name or directory.flow_run_id,
        flow=spec.flow_name,
        state=outbox.state.value,
        message=end.message if end is not None else evidence,
        started_at=_time(local.started.get("started_at")),
        ended_at=_time(record.get("ended_at")) or datetime.fromtimestamp(directory.ended_at(), timezone.utc),
        reason=str(record.get("reason") or ""),
        grade=str(record.get("grade") or ""),
        evidence=evidence,
        samples=account.samples if account is not None else (),
        account=account,
        **_of_spec(spec),
    )


def _of_spec(spec: RunSpec) -> dict[str, Any]:
    return {
        "labels": spec.agent.labels,
        "parameters": {**spec.engine_parameters, **spec.parameters},
        "target": " ".join(_words(spec.target)),
    }


def _words(target: object) -> Iterator[str]:
    """Yield what a run's target names: its command, or the reference to its code."""
    if not isinstance(target, dict):
        return
    argv = target.get("argv")
    if isinstance(argv, list | tuple):
        yield from map(str, argv)
    elif isinstance(target.get("ref"), str):
        yield target["ref"]


def _time(value: object) -> datetime | None:
    try:
        return read_time(str(value), naive="utc")
    except ValueError:
        return None
