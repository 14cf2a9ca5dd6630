"""Concludes that a run has ended, and how, no matter whether this agent or an earlier one started its runner."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from typing import Any

from flowherd.errors import DeployError, RunDirectoryDamaged
from flowherd.host import verdict
from flowherd.host.limits import mebibytes
from flowherd.host.processes import cgroups
from flowherd.host.processes.kill_tree import end_tree
from flowherd.host.run import Run
from flowherd.host.run_phase import RunPhase
from flowherd.host.store.disk_status import DiskStatus, disk_status
from flowherd.host.store.journal_end import append_notice
from flowherd.host.store.records import Started
from flowherd.host.verdict import Verdict
from flowherd.states import RunState
from flowherd_runner.contract import faults, files, identity, reasons
from flowherd_runner.contract.oom import oom_count

#: Reasons whose message already contains the evidence.
_SELF_EVIDENT = frozenset({reasons.REASON_EXITED, reasons.REASON_EXCEPTION, reasons.REASON_NOT_STARTED})
#: Longest part of the runner's error output in a message, characters.
_COMPLAINT_LENGTH = 500


def conclude(run: Run) -> bool:
    """Conclude the run if its runner has ended. Return whether it has.

    Holds the run's lock while it reads and writes, as the runner did before.
    """
    for name in run.directory.quarantine_foreign_files():
        run.log.warning("{} in the run's directory is not a regular file; moved aside", name)
    lock_fd = run.directory.try_lock()
    if lock_fd is None:
        return False
    try:
        faults.point("before-settle")
        record, damage = _exit_record(run)
        decided = _judged(run, record, damage)
        _clear_cgroup(run)
        _write_notice(run, decided, record or {})
        faults.point("after-notice")
        run.finish(decided)
        faults.point("after-outbox")
    finally:
        os.close(lock_fd)
    level = "INFO" if decided.state == RunState.SUCCESS else "WARNING"
    run.log.log(level, "{}", _conclusion(run, decided), action="end", reason=decided.reason)
    if run.runner is not None:
        run.runner.close()
    return True


def _clear_cgroup(run: Run) -> None:
    """Kill the processes that the searches of runner and agent have missed."""
    strays = cgroups.clear(run.cgroup) if run.cgroup is not None else 0
    if strays:
        run.log.warning("Killed {} processes that were left in the run's cgroup", strays, action="clear")


def _judged(run: Run, record: Mapping[str, Any] | None, damage: str) -> Verdict:
    try:
        return _verdict(run, record, damage)
    except OSError:
        raise  # the host may recover; the watcher tries again
    except Exception as error:  # it would fail at every try
        run.log.exception("Unexpected error while concluding the run")
        return verdict.of_damaged_record(repr(error), 0)


def _verdict(run: Run, record: Mapping[str, Any] | None, damage: str) -> Verdict:
    started = _started(run)
    has_started = started is not None or run.directory.had(files.STARTED_FILE) or bool(damage)
    status = disk_status(lock_held=False, exit_recorded=record is not None, started=has_started)
    if status is DiskStatus.ENDED and record is not None:
        try:
            return verdict.of_exit_record(record)
        except ValueError as error:
            damage = str(error)
            run.log.warning("The exit record is damaged: {}", error)
    if status is DiskStatus.NEVER_RAN:
        complaint = _complaint(run)
        text = "The runner ended before it started the flow" + (f": {complaint}" if complaint else ".")
        return verdict.of_failed_deployment(run.failure or DeployError(text))
    if run.phase is RunPhase.KILLED and run.stop is not None:
        return verdict.of_forced_stop(run.stop.reason, run.stop.detail)
    boot_id = identity.boot_id()
    rebooted = started is not None and started.boot_id != boot_id
    # The session id is the dead runner's pid, which may be reused by now unless the runner was watched until its end.
    session = run.runner.pid if run.runner is not None else None
    ended = 0 if rebooted else end_tree(run.id, runner=run.runner, session=session, known=run.tree.processes)
    if damage:
        return verdict.of_damaged_record(damage, ended)
    complaint, oom_kills = _complaint(run), _oom_kills_since(started)
    return verdict.of_lost_runner(started.boot_id if started else None, boot_id, ended, complaint, oom_kills)


def _oom_kills_since(started: Started | None) -> int | None:
    now = oom_count(None)
    if started is None or started.oom_kills is None or now is None:
        return None
    return now.kills - started.oom_kills


def _exit_record(run: Run) -> tuple[dict[str, Any] | None, str]:
    """Return the exit record; if there is one that cannot be used, None and what is wrong with it."""
    try:
        record = run.directory.exit_record()
    except RunDirectoryDamaged as error:
        run.log.warning("{}", error)
        return None, str(error)
    if record is None and run.directory.had(files.EXIT_FILE):
        return None, f"{files.EXIT_FILE} was not a regular file and was moved aside"
    return record, ""


def _started(run: Run) -> Started | None:
    try:
        return run.directory.started()
    except RunDirectoryDamaged as error:
        run.log.warning("{}", error)
        return None


def _complaint(run: Run) -> str:
    """Return what the runner wrote about its own failure; empty if it wrote nothing."""
    try:
        path = run.directory.path / files.RUNNER_ERRORS_FILE
        with os.fdopen(files.open_regular(str(path), os.O_RDONLY), "rb") as file:
            file.seek(max(0, path.lstat().st_size - 4 * _COMPLAINT_LENGTH))
            complaint = file.read(4 * _COMPLAINT_LENGTH).decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return complaint[-_COMPLAINT_LENGTH:]


def _write_notice(run: Run, decided: Verdict, record: Mapping[str, Any]) -> None:
    level = logging.INFO if decided.state == RunState.SUCCESS else logging.ERROR
    try:
        append_notice(run.directory.journal, _notice(run, decided, record), level)
    except OSError as error:
        run.log.warning("Cannot add the end of the run to its log: {}", error)


def _notice(run: Run, decided: Verdict, record: Mapping[str, Any]) -> str:
    parts = [_sentence(_conclusion(run, decided))]
    if decided.reason not in _SELF_EVIDENT and decided.evidence and decided.evidence not in decided.message:
        parts.append(_sentence(f"Cause {decided.grade}: {decided.evidence}"))
    if record:
        peak = max(run.tree.usage.peak_memory_bytes, _number(record.get("peak_memory_bytes")))
        parts.append(f"CPU {_number(record.get('cpu_time_s')):.2f} s, peak memory {mebibytes(int(peak))}.")
    parts.append(_audit(record))
    return " ".join(part for part in parts if part)


def _conclusion(run: Run, decided: Verdict) -> str:
    """Return state and cause; only the cause if the run's own engine reports the state."""
    return decided.message if run.has_engine else f"{decided.state}: {decided.message}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."


def _audit(record: Mapping[str, Any]) -> str:
    leftovers = record.get("leftovers")
    if not isinstance(leftovers, list):
        return ""
    if not leftovers:
        return "No process was left."
    named = [item for item in leftovers[:5] if isinstance(item, Mapping)]
    names = ", ".join(f"{item.get('name')!s:.50} ({item.get('pid')!s:.20})" for item in named)
    return f"Left running and ended: {len(leftovers)} ({names}{', …' if len(leftovers) > 5 else ''})."


def _number(value: object) -> float:
    try:
        number = float(value) if isinstance(value, (int, float)) else 0.0
    except OverflowError:
        return 0.0
    return number if math.isfinite(number) else 0.0
