"""Concludes that a run has ended, and how, no matter whether this agent or an earlier one started its runner."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from flowherd.errors import DeployError, RunDirectoryDamaged
from flowherd.host import verdict
from flowherd.host.end_account import with_account
from flowherd.host.end_time import last_sign_of_life, recorded_end
from flowherd.host.limits import mebibytes
from flowherd.host.processes.flock import runners_within
from flowherd.host.processes.kill_tree import TreeEnd, end_tree, foreign_members
from flowherd.host.processes.runner_process import RunnerProcess
from flowherd.host.run import Run
from flowherd.host.run_phase import RunPhase
from flowherd.host.run_remains import clear_cgroup
from flowherd.host.store.disk_status import DiskStatus, disk_status
from flowherd.host.store.journal_end import append_notice
from flowherd.host.store.records import Started
from flowherd.host.store.runner_errors import runner_errors
from flowherd.host.store.survivors import Survivor, recorded_survivors, sentences
from flowherd.host.verdict import Verdict
from flowherd.states import RunState
from flowherd_runner.contract import faults, files, identity, reasons
from flowherd_runner.contract.oom import oom_count

#: Reasons whose message already contains the evidence.
_SELF_EVIDENT = frozenset({reasons.REASON_EXITED, reasons.REASON_EXCEPTION, reasons.REASON_NOT_STARTED})
#: Reasons that are concluded without a record of the runner.
_WITHOUT_RECORD = frozenset({reasons.REASON_LOST, reasons.REASON_REBOOT})
#: The audit of a run whose runner had no child left; the rest is the stray search's (stray_search.py).
_NO_DESCENDANT = "No process was left below it; strays are searched for within a second."


def conclude(run: Run, remember: Callable[[Sequence[Survivor]], None]) -> bool:
    """Conclude the run if its runner has ended. Return whether it has.

    Holds the run's lock while it reads and writes, as the runner did before. `remember` is called with the processes
    of the run that could not be ended, if there are any.
    """
    run.directory.make_again()
    for name in run.directory.quarantine_foreign_files():
        run.log.warning("{} in the run's directory is not a regular file; moved aside", name)
    lock_fd = run.directory.try_lock()
    if lock_fd is None:
        return False
    try:
        if _found_runner(run):
            return False
        faults.point("before-settle")
        record, damage = _exit_record(run)
        if record is None and run.runner is not None and run.runner.alive:
            return False  # the end is not recorded yet, although the lock is free
        started = _started(run)
        sign_of_life = last_sign_of_life(run, started)
        decided = _judged(run, record, damage, started)
        if not was_not_searched(record):  # else the search of the host does it, because the runner may still be there
            run.survivors += clear_cgroup(run)
        survivors = _look_for_survivors(run, record or {}, remember)
        decided = verdict.with_addition(decided, sentences(survivors))
        decided, ended_at = _dated(decided, record, sign_of_life)
        decided = with_account(run, decided, record or {}, started, survivors)
        _write_notice(run, decided, record or {}, survivors)
        faults.point("after-notice")
        run.exit_status = _exit_status(record or {})
        run.owes_search = was_not_searched(record) or run.spec.isolation.wanted
        is_on_disk = record is not None and not survivors and run.phase is not RunPhase.KILLED
        run.finish(decided, started.started_at if started is not None else None, ended_at, is_on_disk=is_on_disk)
        faults.point("after-outbox")
    finally:
        os.close(lock_fd)
    level = "INFO" if decided.state == RunState.SUCCESS and not survivors else "WARNING"
    run.log.log(level, "{}", _conclusion(run, decided), action="end", reason=decided.reason)
    if run.runner is not None and not run.owes_search:
        run.runner.close()
    return True


def was_not_searched(record: Mapping[str, Any] | None) -> bool:
    """Return whether the runner left the search of the host to the agent (contract/files.py)."""
    return record is not None and record.get("searched") is False


def _found_runner(run: Run) -> bool:
    """Return whether a runner lives although the lock is free, because its files were removed; then watch it.

    Only for a run whose runner is not known and that has no record of its end: the search looks at all processes.
    """
    if run.runner is not None or run.phase is RunPhase.NOT_STARTED or run.directory.had(files.EXIT_FILE):
        return False
    found = runners_within(run.directory.path)
    if len(found) == 1:  # more: it is just being started
        run.log.warning("The run's files were removed, but its runner (pid {}) lives", found[0][0], action="adopt")
        with contextlib.suppress(ProcessLookupError):
            run.take_runner(RunnerProcess(*found[0]))
    return bool(found)


def _look_for_survivors(
    run: Run, record: Mapping[str, Any], remember: Callable[[Sequence[Survivor]], None]
) -> list[Survivor]:
    """Return the processes that runner or agent could not end and that still live."""
    known = {(one.pid, one.start_ticks): one for one in (*recorded_survivors(record), *run.survivors)}
    living = [replace(one, flow_run_id=run.id) for one in known.values() if one.alive]
    if living:
        try:
            remember(living)
        except OSError as error:  # they are still named in the run's log and state
            run.log.warning("Cannot write down which processes survive: {}", error)
    return living


def _dated(
    decided: Verdict, record: Mapping[str, Any] | None, sign_of_life: datetime | None
) -> tuple[Verdict, datetime | None]:
    """Return the verdict with the time of the end, None meaning now; the verdict says if the time is not exact."""
    if record is not None:
        return decided, recorded_end(record)
    if decided.reason not in _WITHOUT_RECORD or sign_of_life is None:
        return decided, None
    text = f"Its last sign of life was at {sign_of_life:%Y-%m-%d %H:%M:%S} UTC; when exactly it ended is not known."
    return verdict.with_addition(decided, text), sign_of_life


def _judged(run: Run, record: Mapping[str, Any] | None, damage: str, started: Started | None) -> Verdict:
    try:
        return _verdict(run, record, damage, started)
    except OSError:
        raise  # the host may recover; the watcher tries again
    except Exception as error:  # it would fail at every try
        run.log.exception("Unexpected error while concluding the run")
        return verdict.of_damaged_record(repr(error), 0)


def _verdict(run: Run, record: Mapping[str, Any] | None, damage: str, started: Started | None) -> Verdict:
    # The pid of the flow process is known from the file `started`, which may have been removed since.
    was_started = run.directory.had(files.STARTED_FILE) or run.flow_pid is not None
    has_started = started is not None or was_started or bool(damage)
    status = disk_status(lock_held=False, exit_recorded=record is not None, started=has_started)
    if status is DiskStatus.ENDED and record is not None:
        try:
            return verdict.of_exit_record(record)
        except ValueError as error:
            damage = str(error)
            run.log.warning("The exit record is damaged: {}", error)
    if status is DiskStatus.NEVER_RAN:
        complaint = runner_errors(run.directory.path)
        text = "The runner ended before it started the flow" + (f": {complaint}" if complaint else ".")
        return verdict.of_failed_deployment(run.failure or DeployError(text))
    boot_id = identity.boot_id()
    rebooted = started is not None and started.boot_id != boot_id
    ended = TreeEnd() if rebooted else _end_tree(run, started)
    run.survivors += ended.survivors
    if run.phase is RunPhase.KILLED and run.stop is not None:
        return verdict.of_forced_stop(run.stop.reason, run.stop.detail, all_ended=not ended.survivors)
    if damage:
        return verdict.of_damaged_record(damage, ended.killed)
    complaint, oom_kills = runner_errors(run.directory.path), _oom_kills_since(started)
    return verdict.of_lost_runner(started.boot_id if started else None, boot_id, ended.killed, complaint, oom_kills)


def _end_tree(run: Run, started: Started | None) -> TreeEnd:
    """End what the runner left; only right after its end is its pid surely the id of the run's session."""
    session = run.runner.pid if run.runner is not None else None
    earlier = started if session is None and started is not None and _is_gone(started) else None
    if earlier is not None and _flow_is_in_session(earlier):
        session, earlier = earlier.pid, None
    init_pid = run.init_pid if started is None else started.init_pid
    ended = end_tree(run.id, runner=run.runner, session=session, known=run.tree.processes, init_pid=init_pid)
    if earlier is None:
        return ended
    found = {one.pid for one in ended.survivors}
    others = [one for one in foreign_members(earlier.pid, earlier.start_ticks) if one.pid not in found]
    return replace(ended, survivors=(*ended.survivors, *others))


def _is_gone(started: Started) -> bool:
    """Return whether the runner has ended and nobody has its pid, also if nobody has waited for it yet.

    A living process of that pid is another, whatever the file says: a runner would hold the lock.
    """
    status = identity.process_status(started.pid)
    return status is None or (status[1] == started.start_ticks and status[2] in "ZX")


def _flow_is_in_session(started: Started) -> bool:
    """Return whether the flow process still lives in the session that its runner, now gone, had made.

    As long as it does, the session's id is not reused (setsid(2)).
    """
    if started.flow_pid is None:
        return False
    flow = identity.process_status(started.flow_pid)
    is_later = flow is not None and flow[1] >= started.start_ticks
    return is_later and identity.session_of(started.flow_pid) == started.pid


def _oom_kills_since(started: Started | None) -> int | None:
    now = oom_count(None)
    if started is None or started.oom_kills is None or now is None:
        return None
    return now.kills - started.oom_kills


def _exit_record(run: Run) -> tuple[dict[str, Any] | None, str]:
    """Return the exit record; if there is one that cannot be used, None and what is wrong with it."""
    try:
        record = run.directory.exit_record()
        if record is None and files.EXIT_FILE in run.directory.complete_records():
            record = run.directory.exit_record()
    except RunDirectoryDamaged as error:
        run.log.warning("{}", error)
        return None, str(error)
    if record is None and run.directory.had(files.EXIT_FILE):
        return None, f"{files.EXIT_FILE} was not a regular file and was moved aside"
    return record, ""


def _exit_status(record: Mapping[str, Any]) -> int | None:
    code, number = record.get("exit_code"), record.get("signal")
    if type(code) is int:
        return code
    return -number if type(number) is int else None


def _started(run: Run) -> Started | None:
    try:
        return run.directory.started()
    except RunDirectoryDamaged as error:
        run.log.warning("{}", error)
        return None


def _write_notice(run: Run, decided: Verdict, record: Mapping[str, Any], survivors: Sequence[Survivor]) -> None:
    level = logging.INFO if decided.state == RunState.SUCCESS and not survivors else logging.ERROR
    try:
        append_notice(run.directory.journal, _notice(run, decided, record, survivors), level)
    except OSError as error:
        run.log.warning("Cannot add the end of the run to its log: {}", error)


def _notice(run: Run, decided: Verdict, record: Mapping[str, Any], survivors: Sequence[Survivor]) -> str:
    parts = [_sentence(_conclusion(run, decided))]
    if decided.reason not in _SELF_EVIDENT and decided.evidence and decided.evidence not in decided.message:
        parts.append(_sentence(f"Cause {decided.grade}: {decided.evidence}"))
    if record:
        peak = max(run.tree.usage.peak_memory_bytes, _number(record.get("peak_memory_bytes")))
        parts.append(f"CPU {_number(record.get('cpu_time_s')):.2f} s, peak memory {mebibytes(int(peak))}.")
    parts.append(_audit(record, survivors))
    return " ".join(part for part in parts if part)


def _conclusion(run: Run, decided: Verdict) -> str:
    """Return state and cause; only the cause if the run's own engine reports the state."""
    if run.is_after_end:
        return f"After the run's end: {decided.message}"
    return decided.message if run.has_engine else f"{decided.state}: {decided.message}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."


def _audit(record: Mapping[str, Any], survivors: Sequence[Survivor]) -> str:
    """Return what became of the processes that outlived the flow process; survivors are in the conclusion already."""
    leftovers = record.get("leftovers")
    if not isinstance(leftovers, list):
        return ""
    if not leftovers:
        if survivors or record.get("survivors"):
            return ""
        return _NO_DESCENDANT if was_not_searched(record) else "No process was left."
    named = [item for item in leftovers[:5] if isinstance(item, Mapping)]
    names = ", ".join(f"{item.get('name')!s:.50} ({item.get('pid')!s:.20})" for item in named)
    return f"Left running and ended: {len(leftovers)} ({names}{', …' if len(leftovers) > 5 else ''})."


def _number(value: object) -> float:
    try:
        number = float(value) if isinstance(value, (int, float)) else 0.0
    except OverflowError:
        return 0.0
    return number if math.isfinite(number) else 0.0
