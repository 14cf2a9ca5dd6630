"""Reports the runs' states to the backend, each end only after the run's whole log."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from flowherd.agent.connection import Connection
from flowherd.agent.measures import RunOfHost
from flowherd.engines.final_report import Outcome, outcome
from flowherd.errors import BackendRefused, BackendUnavailable, NotAuthorized
from flowherd.host.delivery.log_delivery import LogDelivery, LogRequest
from flowherd.host.delivery.older_copy import OlderCopy
from flowherd.host.run import Run
from flowherd.states import FINISHED
from flowherd.values import StateReport
from flowherd_runner.contract import faults

#: Message of an end that the run's own engine has reported, if it has to be reported again.
_BY_ENGINE = "Reported by the flow's engine, and again after the server's database was restored"


class ReportDelivery:
    """Delivers the outboxes of runs; for one thread. `log_is_delivered` says whether a run's end may be reported.

    `is_removed` says whether the run's directory is removed as soon as its end is delivered.
    """

    def __init__(
        self,
        connection: Connection,
        log_is_delivered: Callable[[Run], bool],
        older_copy: OlderCopy,
        is_removed: Callable[[Run], bool],
    ) -> None:
        self._connection = connection
        self._requests = connection.requests
        self._measures = connection.measures
        self._log_is_delivered = log_is_delivered
        self._older_copy = older_copy
        self._is_removed = is_removed

    def deliver_together(self, runs: Iterable[Run], logs: LogDelivery, request: LogRequest) -> bool:
        """Send a request of log lines and the states that may follow it, of all runs, in one step.

        Returns False if nothing was sent: there are no such states, or the backend refuses one of them. Those whose run
        has an engine of its own are never among them. Raises BackendError.
        """
        pending = [(run, reports) for run in runs if (reports := _after(request, run, logs))]
        reports = [report for _, of_run in pending for report in of_run]
        if not reports:
            return False
        if request:
            faults.point("before-write-logs")
        for report in reports:
            faults.point(f"before-report-{_kind(report)}")
        try:
            self._requests.deliver(logs.lines(request), reports)
        except NotAuthorized:
            raise
        except BackendRefused:  # found out one by one
            return False
        for report in reports:
            faults.point(f"after-report-{_kind(report)}")
        for run, of_run in pending:
            is_end = of_run[-1].state in FINISHED
            if is_end:
                self._older_copy.remember(run, of_run[-1], None)
                run.reported_end = of_run[-1]
            # An agent that finds the directory nevertheless sends all of it again, which this backend takes once.
            run.acknowledge(of_run, store=not (is_end and self._is_removed(run)))
            self._measure(run, of_run[-1])
        logs.note_sent(request, self._is_removed)
        return True

    def deliver(self, run: Run) -> bool:
        """Report what the run's outbox holds. Returns whether the backend now knows its end. Raises BackendError."""
        for report in run.pending.reports:
            if report.state in FINISHED and not self._log_is_delivered(run):
                return False
            self._deliver_one(run, report)
        return run.delivered

    def _deliver_one(self, run: Run, report: StateReport) -> None:
        kind = _kind(report)
        faults.point(f"before-report-{kind}")
        decided, version = self._outcome(report)
        if decided.report is not None:
            self._send(run, decided.report)
        elif report.account is not None and decided.state in FINISHED and version is not None:
            self._send_account(run, replace(report, state=decided.state))
        # How a run has ended whose engine reports for itself is not known if the backend does not know the run.
        if kind == "end" and decided.state in FINISHED and (version is not None or not report.of_process):
            end = decided.report or replace(report, state=decided.state, message=_BY_ENGINE)
            self._older_copy.remember(run, end, version)
        faults.point(f"after-report-{kind}")
        run.reported_end = decided.report if kind == "end" else None
        run.acknowledge([report], decided.state if report.of_process else None)
        self._measure(run, report)
        if report.of_process:
            run.log.info("The flow run is {}", decided.state, action="report", told=decided.report is not None)

    def _send_account(self, run: Run, report: StateReport) -> None:
        """Send the account of an end that the run's own engine has reported: the same state again, which stands."""
        if self._connection.keeps_accounts:
            self._send(run, report)

    def _measure(self, run: Run, report: StateReport) -> None:
        """Count a run whose end the backend has; a second start of a directory is none."""
        if report.state in FINISHED and not run.is_after_end:
            known = RunOfHost(run.id, run.name, run.flow_name, run.attempt, run.started_at)
            self._measures.reported(known, report, run.state)

    def _outcome(self, report: StateReport) -> tuple[Outcome, int | None]:
        """Decide what to report: the report itself, or what follows from it if the run's own engine reports states.

        Also returns the version that the run's state has then, if it is known.
        """
        if not report.of_process:
            return Outcome(report=report, state=report.state), None
        standing = self._requests.run_at_backend(report.flow_run_id)
        decided = outcome(report, standing)
        version = None if standing is None else standing.version
        return decided, version if version is None or decided.report is None else version + 1

    def _send(self, run: Run, report: StateReport) -> None:
        try:
            self._requests.report(report)
        except NotAuthorized:
            raise
        except BackendRefused as error:
            if not self._older_copy.is_certain():  # the answer has shown that the server was started again
                raise BackendUnavailable(f"first to be known what the server still has: {error}") from error
            # The run was cancelled or given to another agent meanwhile; the backend's state stands.
            run.log.info("The backend does not take the state {}: {}", report.state, error, action="report")


def _kind(report: StateReport) -> str:
    return "end" if report.state in FINISHED else "start"


def _after(request: LogRequest, run: Run, logs: LogDelivery) -> list[StateReport]:
    """Return the run's next reports that need not be decided by what the backend has, once it has the log lines."""
    found: list[StateReport] = []
    for report in run.pending.reports:
        is_end = report.state in FINISHED
        if report.of_process or (is_end and not (request.completes(run) or logs.sends_nothing(run))):
            break
        found.append(report)
    return found
