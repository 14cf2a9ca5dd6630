"""One flow run's story from all who know a part of it: the backend, its directory on this host, this host's agents.

Reads only. Whatever one source cannot tell is left out; the story says which sources it had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flowherd.cli.parse_options import local_time
from flowherd.client.history import NoticeView, StateView
from flowherd.client.user import RunView
from flowherd.errors import RunDirectoryDamaged
from flowherd.host.store.journal_end import journal_bytes
from flowherd.host.store.run_directory import RunDirectory
from flowherd.states import CLAIMABLE, FINISHED
from flowherd.times import read_time
from flowherd_runner.contract import files, identity
from flowherd_runner.contract.spec import salvage_spec


@dataclass(frozen=True, kw_only=True)
class Happening:
    """One line of the timeline."""

    at: datetime | None
    what: str
    detail: str
    #: "backend", "log" or "directory".
    source: str


@dataclass(frozen=True, kw_only=True)
class LocalFacts:
    """What a run's directory holds."""

    path: Path
    spec: Mapping[str, Any]
    started: Mapping[str, Any]
    stop: Mapping[str, Any]
    exit: Mapping[str, Any]
    journal_bytes: int
    forwarded_bytes: int
    #: State reports that the backend has not acknowledged.
    reports_waiting: int
    #: Whether the very runner that wrote "started" still runs.
    runner_alive: bool
    damage: list[str] = field(default_factory=list)


def local_facts(directory: RunDirectory) -> LocalFacts:
    """What is in the directory; a file that is damaged or not there is an empty one, and damage is told."""
    damage: list[str] = []

    def read(name: str) -> Mapping[str, Any]:
        try:
            return files.read_json(str(directory.path), name) or {}
        except (OSError, ValueError) as error:
            damage.append(str(error))
            return {}

    try:
        waiting = len(directory.outbox().reports)
    except RunDirectoryDamaged as error:
        damage.append(str(error))
        waiting = 0
    started = read(files.STARTED_FILE)
    return LocalFacts(
        path=directory.path,
        spec=read(files.SPEC_FILE),
        started=started,
        stop=read(files.STOP_FILE),
        exit=read(files.EXIT_FILE),
        journal_bytes=journal_bytes(directory.journal),
        forwarded_bytes=directory.forwarded(),
        reports_waiting=waiting,
        runner_alive=_is_alive(started),
        damage=damage,
    )


def timeline(
    run: RunView | None, states: list[StateView], notices: list[NoticeView], local: LocalFacts | None, agent: str | None
) -> list[Happening]:
    """Everything that happened to the run, in the order of its times; what has no time stands at the end."""
    found = [*_of_backend(run, states, agent), *_of_log(notices), *(_of_directory(local) if local else ())]
    latest = datetime.max.replace(tzinfo=timezone.utc)
    return sorted(found, key=lambda happening: happening.at or latest)


def _of_backend(run: RunView | None, states: list[StateView], agent: str | None) -> Iterator[Happening]:
    if run is not None:
        labels = ", ".join(run.labels) or "none"
        yield Happening(at=run.created, what="created", detail=f"{run.flow}, labels: {labels}", source="backend")
        if run.scheduled_start_time is not None and run.scheduled_start_time != run.created:
            yield Happening(at=run.scheduled_start_time, what="due", detail="", source="backend")
    for state in states:
        yield Happening(at=state.at, what=_word(state), detail=_told(state, agent), source="backend")


def _word(state: StateView) -> str:
    if state.state in CLAIMABLE:
        return "queued"
    return "claimed" if state.state == "Submitted" else "ended" if state.state in FINISHED else state.state.lower()


def _told(state: StateView, agent: str | None) -> str:
    parts = [f"{state.state}: {state.message}" if state.message and state.message != state.state else state.state]
    if state.state == "Submitted" and agent:
        parts.append(f"by agent {agent}")
    if state.pid is not None and state.state not in FINISHED:
        parts.append(f"pid {state.pid}")
    if state.reason is not None:
        parts.append(f"reason {state.reason}" + (f", {state.grade}" if state.grade else ""))
    return "; ".join(parts)


def _of_log(notices: list[NoticeView]) -> Iterator[Happening]:
    for notice in notices:
        yield Happening(at=notice.at, what="said", detail=notice.message, source="log")


def _of_directory(local: LocalFacts) -> Iterator[Happening]:
    started, ended = local.started, local.exit
    if started:
        interpreter = salvage_spec(local.spec).agent.interpreter
        words = f"runner {started.get('pid')}, flow process {started.get('flow_pid')}"
        yield _local(started.get("started_at"), "started", words + (f", {interpreter}" if interpreter else ""))
    if local.stop:
        reason, detail = local.stop.get("reason"), local.stop.get("detail")
        yield _local(_changed(local.path / files.STOP_FILE), "asked to end", f"{reason}: {detail}")
    if ended:
        words = f"{ended.get('reason')}, {ended.get('grade')}: {ended.get('evidence')}"
        yield _local(ended.get("ended_at"), "process ended", words)
    elif started and not local.runner_alive:
        yield _local(None, "runner gone", f"process {started.get('pid')} is not there and has left no exit record")


def _local(at: object, what: str, detail: str) -> Happening:
    return Happening(at=at if isinstance(at, datetime) else _time(at), what=what, detail=detail, source="directory")


def _time(text: object) -> datetime | None:
    try:
        return read_time(str(text), naive="utc")
    except ValueError:
        return None


def _changed(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
    except OSError:
        return None


def _is_alive(started: Mapping[str, Any]) -> bool:
    try:
        pid, ticks = int(started["pid"]), int(started["start_ticks"])
    except (KeyError, TypeError, ValueError):
        return False
    return started.get("boot_id") == identity.boot_id() and identity.is_alive(pid, ticks)


def shipping(local: LocalFacts | None) -> list[str]:
    """How far the backend has the run's output, and what was not kept of it."""
    if local is None:
        return []
    left = max(0, local.journal_bytes - local.forwarded_bytes)
    told = f"of {local.journal_bytes} bytes in the journal the backend has {local.journal_bytes - left}"
    sentences = [f"{told}; {left} are on this disk alone" if left else told]
    if local.reports_waiting:
        sentences.append(f"{local.reports_waiting} state reports wait for the backend")
    cut, dropped = local.exit.get("lines_cut") or 0, local.exit.get("lines_dropped") or 0
    if cut or dropped:
        sentences.append(f"of {local.exit.get('lines')} lines {cut} were cut and {dropped} more not kept")
    return sentences


def leftovers(local: LocalFacts | None) -> list[str]:
    """The processes that had outlived the flow process and were ended, as "name (pid)"."""
    found = local.exit.get("leftovers") if local is not None else None
    if not isinstance(found, list):
        return []
    return [f"{item.get('name')} ({item.get('pid')})" for item in found if isinstance(item, Mapping)]


def stamp(happening: Happening, now: datetime) -> str:
    """When, for people; to the millisecond, since much happens within a second."""
    if happening.at is None:
        return ""
    return f"{local_time(happening.at, now)}.{happening.at.microsecond // 1000:03d}"
