"""The contents of a run's directory, read for people: what happened to it on its host, and how far its log was sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flowherd.errors import RunDirectoryDamaged
from flowherd.host.store.journal_end import journal_bytes
from flowherd.host.store.run_directory import RunDirectory
from flowherd.story.account import (
    ADOPTED,
    ASKED_TO_END,
    ENDED,
    KEPT_APART,
    KILLED,
    NEAR_LIMIT,
    STARTED,
    Account,
    read_account,
    read_moment,
)
from flowherd.story.timeline import TimelineEntry, events_of
from flowherd.times import read_time
from flowherd.weights import of_run
from flowherd_runner.contract import files, identity
from flowherd_runner.contract.isolation import in_force_of, summary
from flowherd_runner.contract.spec import salvage_spec
from flowherd_runner.contract.variables import KIND_PYTHON


@dataclass(frozen=True, kw_only=True)
class LocalFacts:
    """The contents of a run's directory."""

    path: Path
    spec: Mapping[str, Any]
    started: Mapping[str, Any]
    stop: Mapping[str, Any]
    exit: Mapping[str, Any]
    #: What the agent's search of the host for strays found; empty before it, and if the runner searched itself.
    search: Mapping[str, Any]
    journal_bytes: int
    forwarded_bytes: int
    #: Number of state reports that the backend has not acknowledged.
    reports_waiting: int
    #: What the agent has written down of it; None before that.
    account: Account | None = None
    #: Whether the runner that wrote "started" is still running.
    runner_alive: bool
    damage: list[str] = field(default_factory=list)


def local_facts(directory: RunDirectory) -> LocalFacts:
    """Read the directory. A missing or damaged file counts as empty; damage is listed."""
    damage: list[str] = []

    def read(name: str) -> Mapping[str, Any]:
        try:
            return files.read_json(str(directory.path), name) or {}
        except (OSError, ValueError) as error:
            damage.append(str(error))
            return {}

    try:
        outbox = directory.outbox()
        # An end that the runner has written down is not in the outbox before the backend has it.
        waiting = len(outbox.reports) or int(directory.had(files.EXIT_FILE) and not outbox.final)
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
        search=read(files.SEARCH_FILE),
        journal_bytes=journal_bytes(directory.journal),
        forwarded_bytes=directory.forwarded(),
        reports_waiting=waiting,
        account=read_account(read(files.ACCOUNT_FILE) or None),
        runner_alive=_is_alive(started),
        damage=damage,
    )


def entries_of(local: LocalFacts | None) -> list[TimelineEntry]:
    """Return what happened to the run on its host; empty if there is no directory."""
    return [] if local is None else list(_entries(local))


def _entries(local: LocalFacts) -> Iterator[TimelineEntry]:
    started, ended = local.started, local.exit
    if started:
        spec = salvage_spec(local.spec)
        interpreter = spec.agent.interpreter
        detail = f"runner {started.get('pid')}, flow process {started.get('flow_pid')}"
        code = _python_code(local.spec)
        parts = [detail, *([interpreter] if interpreter else []), *([code] if code else []), *of_run(spec.weights)]
        yield _local(started.get("started_at"), STARTED, ", ".join(parts))
        found = in_force_of(started["isolation"]) if started.get("isolation") else None
        if isolation := summary(found, spec.isolation):
            yield _local(started.get("started_at"), KEPT_APART, isolation)
    if local.stop:
        cause = f"{local.stop.get('reason')}: {local.stop.get('detail')}"
        yield _local(_changed(local.path / files.STOP_FILE), ASKED_TO_END, cause)
    # Only the agent has these; everything else is in the files above and below, and there with more words.
    of_agent = [each for each in events_of(local.account) if each.what in (ADOPTED, NEAR_LIMIT, KILLED)]
    yield from of_agent
    killed_at = read_moment(ended.get("killed_at"))
    if killed_at is not None and all(each.what != KILLED for each in of_agent):
        yield _local(datetime.fromtimestamp(killed_at, timezone.utc), KILLED, "")
    if ended:
        detail = f"{ended.get('reason')}, {ended.get('grade')}: {ended.get('evidence')}"
        yield _local(ended.get("ended_at"), ENDED, detail)
        if local.search:
            yield _local(local.search.get("at"), "host searched", _search_result(local.search))
    elif started and not local.runner_alive:
        yield _local(None, "runner gone", f"process {started.get('pid')} no longer exists and left no exit record")


def _search_result(search: Mapping[str, Any]) -> str:
    found = ", ".join(_named_processes(search.get("found"))) or "none of this run"
    return f"looked at {search.get('looked_at')} processes after the end, found: {found}"


def _python_code(spec: Mapping[str, Any]) -> str | None:
    """Return what a run of Python code does, as the interpreter would be told to do it; None for other kinds."""
    target = salvage_spec(spec).target
    if salvage_spec(spec).kind != KIND_PYTHON or not isinstance(target.get("ref"), str):
        return None
    ref: str = target["ref"]
    return f"runs the file {ref}" if ref.endswith(".py") else f"calls {ref}"


def _local(at: object, what: str, detail: str) -> TimelineEntry:
    at = at if isinstance(at, datetime) else _time(at)
    return TimelineEntry(at=at, what=what, detail=detail, source="directory")


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


def log_progress(local: LocalFacts | None) -> list[str]:
    """Return sentences on how much of the run's output has been sent to the backend, and what was not kept."""
    if local is None:
        return []
    left = max(0, local.journal_bytes - local.forwarded_bytes)
    sent = f"the backend has {local.journal_bytes - left} of {local.journal_bytes} bytes in the journal"
    sentences = [f"{sent}; {left} are only on this disk" if left else sent]
    if local.reports_waiting:
        sentences.append(f"{local.reports_waiting} state reports wait for the backend")
    cut, dropped = local.exit.get("lines_cut") or 0, local.exit.get("lines_dropped") or 0
    if cut or dropped:
        sentences.append(f"{cut} of {local.exit.get('lines')} lines were cut, and {dropped} more were not kept")
    return sentences


def leftovers(local: LocalFacts | None) -> list[str]:
    """Return the processes that outlived the flow process and were ended, as "name (pid)"."""
    return _named_processes(local.exit.get("leftovers")) if local is not None else []


def _named_processes(found: object) -> list[str]:
    items = found if isinstance(found, list) else []
    return [f"{item.get('name')} ({item.get('pid')})" for item in items if isinstance(item, Mapping)]
