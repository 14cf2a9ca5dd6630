"""What happened to one flow run, merged from the backend, flowherd's lines in the log, and the run's directory.

Only reads. What a source does not have is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flowherd.cli.format_times import local_time
from flowherd.client.history import NoticeView, StateView
from flowherd.client.runs import RunView
from flowherd.errors import RunDirectoryDamaged
from flowherd.host.store.journal_end import journal_bytes
from flowherd.host.store.run_directory import RunDirectory
from flowherd.states import CLAIMABLE, FINISHED
from flowherd.times import read_time
from flowherd_runner.contract import files, identity
from flowherd_runner.contract.spec import salvage_spec
from flowherd_runner.contract.variables import KIND_PYTHON


@dataclass(frozen=True, kw_only=True)
class TimelineEntry:
    """One entry of the timeline."""

    at: datetime | None
    what: str
    detail: str
    #: Where it is known from: "backend", "log" or "directory".
    source: str


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
        runner_alive=_is_alive(started),
        damage=damage,
    )


def timeline(
    run: RunView | None,
    states: Sequence[StateView],
    notices: Sequence[NoticeView],
    local: LocalFacts | None,
    agent: str | None,
    earlier: Mapping[datetime, str | None] | None = None,
) -> list[TimelineEntry]:
    """Return everything that happened to the run, ordered by time; entries without a time come last.

    `agent` has claimed the run last, and `earlier` has the agents of the attempts before by the times of their ends.

    States are dated by what the runner wrote down, which stands before the state of the same time.
    """
    found = [
        *(_from_directory(local) if local else ()),
        *_from_backend(run, states, agent, earlier or {}),
        *_from_log(notices),
    ]
    latest = datetime.max.replace(tzinfo=timezone.utc)
    return sorted(found, key=lambda entry: entry.at or latest)


def _from_backend(
    run: RunView | None, states: Sequence[StateView], agent: str | None, earlier: Mapping[datetime, str | None]
) -> Iterator[TimelineEntry]:
    if run is not None:
        labels = ", ".join(run.labels) or "none"
        repeats = f", repeats {run.repeats}" if run.repeats else ""
        detail = f"{run.flow}, labels: {labels}{repeats}"
        yield TimelineEntry(at=run.created, what="created", detail=detail, source="backend")
        if run.scheduled_start_time is not None and run.scheduled_start_time != run.created:
            yield TimelineEntry(at=run.scheduled_start_time, what="due", detail="", source="backend")
    claimants = _claimants(states, agent, earlier)
    for state, claimant in zip(states, claimants, strict=True):
        yield TimelineEntry(at=state.at, what=_word(state), detail=_detail(state, claimant), source="backend")


def _claimants(
    states: Sequence[StateView], agent: str | None, earlier: Mapping[datetime, str | None]
) -> list[str | None]:
    """Return for each state which agent claimed the run with it; None if it is none of a claim, or not known.

    Of several claims of one attempt only the last one's agent is known.
    """
    found, known = list[str | None](), set[datetime | None]()
    for state in reversed(states):
        claimant = None
        if state.state == "Submitted" and state.at is not None:
            end = min((end for end in earlier if end >= state.at), default=None)
            if end not in known:
                known.add(end)
                claimant = agent if end is None else earlier[end]
        found.append(claimant)
    return found[::-1]


def _word(state: StateView) -> str:
    if state.state in CLAIMABLE:
        return "queued"
    return "claimed" if state.state == "Submitted" else "ended" if state.state in FINISHED else state.state.lower()


def _detail(state: StateView, agent: str | None) -> str:
    parts = [f"{state.state}: {state.message}" if state.message and state.message != state.state else state.state]
    if agent:
        parts.append(f"by agent {agent}")
    if state.pid is not None and state.state not in FINISHED:
        parts.append(f"pid {state.pid}")
    if state.reason is not None:
        parts[0] = parts[0].removesuffix(".")
        parts.append(f"reason {state.reason}" + (f", {state.grade}" if state.grade else ""))
    return "; ".join(parts)


def _from_log(notices: Sequence[NoticeView]) -> Iterator[TimelineEntry]:
    for notice in notices:
        yield TimelineEntry(at=notice.at, what="logged", detail=notice.message, source="log")


def _from_directory(local: LocalFacts) -> Iterator[TimelineEntry]:
    started, ended = local.started, local.exit
    if started:
        interpreter = salvage_spec(local.spec).agent.interpreter
        detail = f"runner {started.get('pid')}, flow process {started.get('flow_pid')}"
        code = _python_code(local.spec)
        parts = [detail, *([interpreter] if interpreter else []), *([code] if code else [])]
        yield _local(started.get("started_at"), "started", ", ".join(parts))
    if local.stop:
        cause = f"{local.stop.get('reason')}: {local.stop.get('detail')}"
        yield _local(_changed(local.path / files.STOP_FILE), "asked to end", cause)
    if ended:
        detail = f"{ended.get('reason')}, {ended.get('grade')}: {ended.get('evidence')}"
        yield _local(ended.get("ended_at"), "process ended", detail)
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


def shown_time(entry: TimelineEntry, now: datetime) -> str:
    """Format the time of an entry, with milliseconds, because much happens within a second."""
    if entry.at is None:
        return ""
    return f"{local_time(entry.at, now)}.{entry.at.microsecond // 1000:03d}"
