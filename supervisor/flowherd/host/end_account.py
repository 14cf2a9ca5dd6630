"""The account of a run's end, from its exit record, its history on this host, and who asked for the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from flowherd.host.run import Run
from flowherd.host.run_history import write_account
from flowherd.host.store.records import Started
from flowherd.host.store.survivors import Survivor
from flowherd.host.verdict import Verdict
from flowherd.states import RunState
from flowherd.story.account import (
    ASKED_TO_END,
    ENDED,
    KEPT_APART,
    KILLED,
    STARTED,
    Account,
    RunEvent,
    account_as_json,
    read_moment,
    read_number,
)
from flowherd.times import read_time
from flowherd.weights import of_run
from flowherd_runner.contract import files
from flowherd_runner.contract.isolation import summary

#: A run that ended well has an account if its curve has as many points; they are a second apart at least.
_LEAST_SAMPLES = 10
#: A run that is killed so soon after it was asked to end had no grace time, seconds.
_NO_GRACE_S = 0.05


def with_account(
    run: Run, decided: Verdict, record: Mapping[str, Any], started: Started | None, survivors: Sequence[Survivor]
) -> Verdict:
    """Return the verdict with the account of this end; unchanged if there is nothing that the verdict does not say.

    The account is also written into the run's directory, unsynced, if there is more in it than in the records there.
    """
    if run.is_after_end:
        return decided
    try:
        account = _account(run, decided, record, started, survivors)
    except Exception:  # the end is reported, whatever is wrong with what it carries
        run.log.exception("Unexpected error while making the account of the run's end")
        return decided
    return decided if account is None else replace(decided, account=account_as_json(account))


def _account(
    run: Run, decided: Verdict, record: Mapping[str, Any], started: Started | None, survivors: Sequence[Survivor]
) -> Account | None:
    history, leftovers = run.history, record.get("leftovers")
    went_well = decided.state is RunState.SUCCESS and not leftovers and not survivors and not history.events
    is_apart = started is not None and started.isolation is not None
    if went_well and not is_apart and len(history.samples) < _LEAST_SAMPLES:
        return None
    named = [item for item in leftovers if isinstance(item, Mapping)] if isinstance(leftovers, list) else []
    known = Account(
        evidence=decided.evidence,
        exit_code=_whole(record.get("exit_code")),
        signal=_whole(record.get("signal")),
        cpu_time_s=read_number(record.get("cpu_time_s")) if record else run.tree.usage.cpu_time_s or None,
        peak_memory_bytes=_peak(run, record),
        memory_limit_bytes=run.limits.memory_bytes,
        leftovers=tuple(f"{item.get('name')} ({item.get('pid')})" for item in named),
        leftovers_count=_whole(record.get("leftovers_count")) or len(named),
        survivors=tuple(f"{one.name} ({one.pid})" for one in survivors),
        events=tuple(_events(run, record, started)),
    )
    account = history.account(known)
    if decided.state is RunState.SUCCESS:
        account = replace(account, processes=(), processes_at_s=None)
    if history.events or history.samples:
        write_account(str(run.directory.path), account)
    return account


def _events(run: Run, record: Mapping[str, Any], started: Started | None) -> Iterator[RunEvent]:
    if started is not None and started.started_at is not None:
        parts = [f"runner {started.pid}, flow process {started.flow_pid}", *of_run(run.spec.weights)]
        yield RunEvent(at_s=started.started_at.timestamp(), what=STARTED, detail=", ".join(parts))
        if isolation := summary(started.isolation, run.spec.isolation):
            yield RunEvent(at_s=started.started_at.timestamp(), what=KEPT_APART, detail=isolation)
    if (asked := _asked(run, record)) is not None:
        yield asked
    killed_at = read_moment(record.get("killed_at"))
    if killed_at is not None:
        waited_s = killed_at - (read_moment(record.get("asked_at")) or 0.0)
        detail = "at once, without a grace time" if waited_s < _NO_GRACE_S else "it had not ended within its grace time"
        yield RunEvent(at_s=killed_at, what=KILLED, detail=detail)
    ended_at = _time(record.get("ended_at"))
    if ended_at is not None:
        yield RunEvent(at_s=ended_at.timestamp(), what=ENDED, detail=str(record.get("evidence") or ""))


def _asked(run: Run, record: Mapping[str, Any]) -> RunEvent | None:
    """Return when and why the run was asked to end: by the agent, or by its runner alone."""
    try:
        stop = files.read_json(str(run.directory.path), files.STOP_FILE)
        written_at = (run.directory.path / files.STOP_FILE).stat().st_mtime
    except (OSError, ValueError):
        stop, written_at = None, 0.0
    if stop is not None:
        return RunEvent(at_s=written_at, what=ASKED_TO_END, detail=f"{stop.get('reason')}: {stop.get('detail')}")
    asked_at = read_moment(record.get("asked_at"))
    if asked_at is None:
        return None
    why = str(record.get("evidence") or "").partition("; ")[0]
    return RunEvent(at_s=asked_at, what=ASKED_TO_END, detail=f"{record.get('reason')}: {why}")


def _peak(run: Run, record: Mapping[str, Any]) -> int | None:
    """Return the highest memory that is known: of all processes together as seen, or of the largest one."""
    seen = max((sample.memory_bytes or 0 for sample in run.history.samples), default=0)
    found = max(seen, run.tree.usage.peak_memory_bytes, _whole(record.get("peak_memory_bytes")) or 0)
    return found or None


def _time(value: object) -> datetime | None:
    try:
        return read_time(str(value), naive="utc")
    except ValueError:
        return None


def _whole(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None
