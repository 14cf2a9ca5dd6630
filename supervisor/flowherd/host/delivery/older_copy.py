"""Tells a backend that was restored from an older copy what has happened to this host's runs since.

Looks after each start of the server, as far as that can be seen (`Connection.epoch`): living runs first, then the kept
ends. What is older there follows from the version of the run's state, which grows with each state: a run was claimed at
one version, so a waiting state of that version, or of a lower one, comes before the claim. A state of a higher version
comes later, because a person had the run started again, for example, and is left alone. A run that waits there is
claimed first, under its version, so that an agent which has claimed it meanwhile keeps it.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import islice

from loguru import logger

from flowherd.agent.connection import Connection
from flowherd.errors import BackendRefused, ClaimLost, NotAuthorized
from flowherd.host.run import Run
from flowherd.host.run_registry import RunRegistry
from flowherd.host.store.kept_ends import KeptEnd, KeptEnds
from flowherd.states import CLAIMABLE, UNSTARTED, RunState
from flowherd.values import FlowRun, LogLine, StateReport, StoredState

#: Number of runs in one request.
_RUNS_AT_ONCE = 200
#: Number of ids in a line of the log.
_IDS_SHOWN = 5
#: The highest version, above the claimed one, that a state of the same start can have: Submitted follows the claim,
#: Running that, and Cancelling may come before the end.
_STEPS = {RunState.SUBMITTED: 1, RunState.RUNNING: 2, RunState.CANCELLING: 3}
_AGAIN = (
    "The server's database was restored from an older copy, and this end was reported again; what the run wrote since "
    "that copy was made is missing here."
)


def is_before(end: KeptEnd, stored: StoredState) -> bool:
    """Return whether an unfinished state of a run is from before its kept end."""
    if end.end_version is not None:
        return stored.version < end.end_version
    if end.claimed_version is None:
        return stored.claim is not None and stored.claim == end.report.claim
    return stored.version <= end.claimed_version + _STEPS.get(stored.state, 0)


def is_before_claim(claimed_version: int | None, stored: StoredState) -> bool:
    """Return whether a stored state is from before the claim of a run, which was made at `claimed_version`."""
    return claimed_version is not None and stored.state in CLAIMABLE and stored.version <= claimed_version


@dataclass(frozen=True, kw_only=True)
class _Again:
    """An end to be reported again, with the states that have to come before it."""

    end: KeptEnd
    reports: list[StateReport]


class OlderCopy:
    """Looks for older states of the runs of a registry and of the kept ends.

    For the courier's thread, except for two methods that say so. `is_in_use` says whether the host has a run.
    """

    def __init__(
        self,
        registry: RunRegistry,
        connection: Connection,
        kept: KeptEnds,
        is_in_use: Callable[[str], bool],
        *,
        send_logs: bool,
    ) -> None:
        self._registry = registry
        self._send_logs = send_logs
        self._connection = connection
        self._kept = kept
        self._is_in_use = is_in_use
        #: The epoch whose living runs are told.
        self._epoch = 0
        #: Ids of the kept ends that are not looked up yet.
        self._left: deque[str] = deque()
        self._asked_again = False
        #: Runs of which it was logged that the backend does not know them.
        self._unknown: set[str] = set()

    # -- for any thread

    def is_certain(self) -> bool:
        """Return whether the living runs are told since the server's last start."""
        return self._connection.versioned_backend is None or self._epoch == self._connection.epoch

    def refuse_ended(self, flow_run: FlowRun) -> None:
        """Raise ClaimLost if the run has ended here after the state in which the backend hands it out."""
        end = None if self._connection.versioned_backend is None else self._kept.get(flow_run.id)
        versions = (None, None) if end is None else (end.end_version, end.claimed_version)
        known = max((version for version in versions if version is not None), default=None)
        if known is not None and flow_run.version is not None and flow_run.version <= known:
            self._asked_again = True
            raise ClaimLost(f"flow run {flow_run.id} has ended here already, and the backend has an older state of it")

    # -- in the courier's thread

    def remember(self, run: Run, report: StateReport, end_version: int | None) -> None:
        """Keep the end of a run that the backend now has."""
        if self._connection.versioned_backend is None or run.is_after_end:
            return
        report = replace(report, version=None, of_process=False, claim=run.claim or None)
        version = run.claimed_version
        self._kept.add(
            KeptEnd(report=report, claimed_version=version, end_version=end_version, started_at=run.started_at)
        )

    def repair(self) -> bool:
        """Look for older states, if the server may have been started again. Returns whether there is more to look at.

        Raises BackendError.
        """
        if self._connection.versioned_backend is None:
            return False
        epoch = self._connection.epoch
        if epoch != self._epoch or self._asked_again:
            self._asked_again = False
            self._repair_living()
            # What the answers have shown meanwhile is looked at in the next round.
            self._epoch = epoch
            self._left = deque(self._kept.ids())
        self._repair_ended(list(islice(self._left, _RUNS_AT_ONCE)))
        for _ in range(min(_RUNS_AT_ONCE, len(self._left))):
            self._left.popleft()
        return bool(self._left)

    def _repair_living(self) -> None:
        runs = {run.id: run for run in self._registry if not (run.delivered or run.is_after_end)}
        if not runs:
            return
        found = self._connection.requests.unfinished_runs(list(runs))
        backend = self._connection.versioned_backend
        if found.known < len(runs):
            self._say_unknown(list(runs), "live here, or have just ended")
        for run in runs.values():
            if backend is not None and backend.server_restored and run.sends_logs:
                run.directory.set_forwarded(0)  # that server stores a line once, so what it has is not doubled
            if run.id in found.states:
                self._tell_again(run, found.states[run.id])

    def _tell_again(self, run: Run, stored: StoredState) -> None:
        """Claim a run again that waits in the older copy, and report that it runs."""
        if stored.claim not in (None, run.claim):
            run.log.warning("The backend has given the run to another agent ({})", stored.claim, action="restored")
            return
        reports = []
        if is_before_claim(run.claimed_version, stored):
            reports.append(_claim(run.id, run.claim, stored))
        elif stored.state is not RunState.SUBMITTED or not run.reports_start:
            return  # an engine that is about to report Running itself would stumble over another version
        is_pending = any(report.state is RunState.RUNNING for report in run.pending.reports)
        if run.started_at is not None and not is_pending:
            reports.append(_running(run.id, run.claim, run.started_at))
        if reports and self._report(reports, run.id):
            run.log.warning(
                "The backend had an older state of the run ({}); told again", stored.state, action="restored"
            )

    def _repair_ended(self, ids: Sequence[str]) -> None:
        ids = [run_id for run_id in ids if not self._is_in_use(run_id)]
        if not ids:
            return
        found = self._connection.requests.unfinished_runs(ids)
        if found.known < len(ids):
            self._say_unknown(ids, "have ended here")
        ends = {run_id: end for run_id in found.states if (end := self._kept.get(run_id)) is not None}
        again = [
            _again(end, found.states[run_id]) for run_id, end in ends.items() if is_before(end, found.states[run_id])
        ]
        done = self._report_ends(again)
        if done:
            text = "The backend had older states of {} runs that have ended here; their ends are reported again: {}"
            logger.warning(text, len(done), _shown([one.end.report.flow_run_id for one in done]), action="restored")
            if self._send_logs:
                with contextlib.suppress(BackendRefused):
                    self._connection.requests.write_logs([_note(one.end) for one in done])

    def _report_ends(self, again: Sequence[_Again]) -> list[_Again]:
        """Report these ends and return those that the backend has taken."""
        if not again:
            return []
        reports = [report for one in again for report in one.reports]
        if self._report(reports, again[0].end.report.flow_run_id, is_one=len(again) == 1):
            return list(again)
        middle = len(again) // 2
        return [] if not middle else [*self._report_ends(again[:middle]), *self._report_ends(again[middle:])]

    def _report(self, reports: Sequence[StateReport], flow_run_id: str, *, is_one: bool = True) -> bool:
        try:
            self._connection.requests.report_together(reports)
        except NotAuthorized:
            raise
        except BackendRefused as error:  # claimed by another agent since, or changed by a person: that stands
            if is_one:
                logger.bind(run_id=flow_run_id).warning("The backend does not take the run's states again: {}", error)
            return False
        return True

    def _say_unknown(self, ids: Sequence[str], what: str) -> None:
        known = self._connection.requests.stored_states(ids)
        unknown = [run_id for run_id in ids if run_id not in known and run_id not in self._unknown]
        self._unknown.update(unknown)
        if unknown:
            text = "The backend does not know {} runs that {}, and they are left alone: {}"
            logger.info(text, len(unknown), what, _shown(unknown), action="restored")


def _again(end: KeptEnd, stored: StoredState) -> _Again:
    report = end.report
    claim, reports = report.claim or "", []
    if stored.state in CLAIMABLE:
        reports.append(_claim(report.flow_run_id, claim, stored))
    if stored.state in UNSTARTED and end.started_at is not None:
        reports.append(_running(report.flow_run_id, claim, end.started_at))
    return _Again(end=end, reports=[*reports, report])


def _claim(flow_run_id: str, claim: str, stored: StoredState) -> StateReport:
    return StateReport(
        flow_run_id=flow_run_id,
        state=RunState.SUBMITTED,
        message="Submitted for execution, as before the server's database was restored",
        at=datetime.now(timezone.utc),
        version=stored.version,
        claim=claim or None,
    )


def _running(flow_run_id: str, claim: str, started_at: datetime) -> StateReport:
    return StateReport(
        flow_run_id=flow_run_id, state=RunState.RUNNING, message="Running", at=started_at, claim=claim or None
    )


def _note(end: KeptEnd) -> LogLine:
    return LogLine(
        flow_run_id=end.report.flow_run_id,
        at=datetime.now(timezone.utc),
        stream="flowherd",
        level=logging.WARNING,
        logger="flowherd",
        message=_AGAIN,
    )


def _shown(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_IDS_SHOWN]) + (", …" if len(ids) > _IDS_SHOWN else "")
