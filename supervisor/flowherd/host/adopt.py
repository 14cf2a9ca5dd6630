"""Adopts the runs of an earlier agent from their directories, by the table of docs/design.md, section 5."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from loguru import logger

from flowherd.errors import RunDirectoryDamaged
from flowherd.host.conclude import was_not_searched
from flowherd.host.intent import Intent
from flowherd.host.processes.flock import runners_within
from flowherd.host.retention import Retention
from flowherd.host.run import Run
from flowherd.host.store.disk_status import DiskStatus, disk_status
from flowherd.host.store.journal_end import ends_with_notice
from flowherd.host.store.run_directory import RunDirectory
from flowherd.host.store.state_directory import StateDirectory
from flowherd.story.account import ADOPTED
from flowherd.values import claim_token
from flowherd_runner.contract import files
from flowherd_runner.contract.spec import RunSpec

#: How long all runners together may take to start their run, or to end because nothing tells them to, seconds.
_UNDECIDED_S = 10.0
#: Pause between two looks at one of them, seconds.
_LOOK_S = 0.002
#: Number of foreign names that are logged.
_NAMES_SHOWN = 10


@dataclass(frozen=True)
class Adopted:
    """What an earlier agent left."""

    #: Runs to watch, whether their runner lives or not.
    runs: list[Run] = field(default_factory=list)
    #: Runs whose end the backend knows, and for whose strays the host was not searched.
    unsearched: list[Run] = field(default_factory=list)
    #: Runs that never started.
    intents: list[Intent] = field(default_factory=list)
    #: Until when to wait for runners that have not started anything (monotonic).
    looked_until_s: float = field(default_factory=lambda: time.monotonic() + _UNDECIDED_S)


def adopt_runs(state: StateDirectory, retention: Retention, changed: Callable[[], None]) -> Adopted:
    """Read all run directories. `changed` is called when an adopted run has something for the backend."""
    adopted = Adopted()
    state.blanks.recover()
    for directory in state.found_runs():
        try:
            _adopt(directory, state.identity, retention, changed, adopted)
        except Exception as error:  # a bad run fails alone; what is left of it stays for a person to look at
            logger.bind(run_id=directory.flow_run_id).error("Cannot take over the run: {!r}", error)
    foreign = state.foreign_names()
    if foreign:
        logger.warning("Left alone in {}, no run directories: {}", state.runs, foreign[:_NAMES_SHOWN])
    return adopted


def _adopt(
    directory: RunDirectory, identity: str, retention: Retention, changed: Callable[[], None], adopted: Adopted
) -> None:
    for name in directory.quarantine_foreign_files():
        logger.bind(run_id=directory.flow_run_id).warning("Set aside {}, it is no regular file", name)
    _complete_records(directory)
    if directory.is_abandoned() and (retention.remove(directory) or not _has_runner(directory)):
        return
    run = _run_of_earlier_agent(directory, identity, changed)
    if run.delivered:
        if _was_not_searched(directory):
            adopted.unsearched.append(run)
        return
    lock_fd = _free_lock(directory, adopted.looked_until_s)
    if lock_fd is not None and not directory.had(files.EXIT_FILE) and runners_within(directory.path):
        run.log.warning("The lock file was removed, but the runner lives; it makes its files again", action="adopt")
        os.close(lock_fd)
        lock_fd = None
    # Whether the records can be used is found out when the run's end is concluded.
    status = disk_status(
        lock_held=lock_fd is None,
        # Its log already says how it ended: it is not started after that.
        exit_recorded=run.ended or directory.had(files.EXIT_FILE) or ends_with_notice(directory.journal),
        started=directory.had(files.STARTED_FILE),
    )
    run.log.info("Found a run of an earlier agent: {}", status.value, action="adopt")
    if status is DiskStatus.NEVER_RAN and lock_fd is not None:
        adopted.intents.append(Intent(run=run, lock_fd=lock_fd, by_earlier_agent=True))
        return
    if lock_fd is not None:
        os.close(lock_fd)
    run.history.adopt()
    if not run.ended:
        run.resume()
        if lock_fd is None:
            run.history.note(ADOPTED, f"by agent process {os.getpid()}; the run went on meanwhile")
    adopted.runs.append(run)


def _complete_records(directory: RunDirectory) -> None:
    lock_fd = directory.try_lock()
    if lock_fd is None:
        return
    try:
        for name in directory.complete_records():
            logger.bind(run_id=directory.flow_run_id).info("Found {} without its name", name, action="adopt")
    finally:
        os.close(lock_fd)


def _was_not_searched(directory: RunDirectory) -> bool:
    if os.path.lexists(directory.path / files.PRIVATE_DIRECTORY):
        return True  # what the search clears beside that was not cleared either
    if directory.had(files.SEARCH_FILE):
        return False
    try:
        return was_not_searched(directory.exit_record())
    except RunDirectoryDamaged:
        return False


def _free_lock(directory: RunDirectory, until_s: float) -> int | None:
    """Return the run's lock; None while a runner has it.

    A runner that its agent had not told to go on ends as soon as that agent is gone, and its run has never been
    started; one that was told so is about to write `started`. So wait a moment for the one or the other.
    """
    lock_fd = directory.try_lock()
    while lock_fd is None and not directory.had(files.STARTED_FILE) and time.monotonic() < until_s:
        time.sleep(_LOOK_S)
        lock_fd = directory.try_lock()
    return lock_fd


def _has_runner(directory: RunDirectory) -> bool:
    return directory.lock_is_held() or bool(runners_within(directory.path))


def _run_of_earlier_agent(directory: RunDirectory, identity: str, changed: Callable[[], None]) -> Run:
    """Return the run as its directory describes it; a damaged spec or outbox costs only what it said."""
    log = logger.bind(run_id=directory.flow_run_id)
    token = claim_token(identity, directory.flow_run_id)
    try:
        spec = directory.spec()
    except RunDirectoryDamaged as error:
        log.warning("{}", error)
        spec = RunSpec(flow_run_id="")
    # A directory of ours is a claim of ours, or was to become one, whatever its spec says.
    if spec.flow_run_id != directory.flow_run_id:
        spec = RunSpec(flow_run_id=directory.flow_run_id)
    if not spec.agent.claim.endswith(f"/{directory.flow_run_id}"):
        spec = spec._replace(agent=spec.agent._replace(claim=token))
    try:
        return Run(directory, spec, changed)
    except RunDirectoryDamaged as error:
        log.warning("Set aside; everything is reported again: {}", error)
        directory.set_aside(files.OUTBOX_FILE)
        return Run(directory, spec, changed)
