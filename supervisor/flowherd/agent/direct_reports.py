"""What an agent reports itself about flow runs that its platform does not keep: log lines and failed deployments.

Nothing is kept for later: a report that the backend does not take is logged here and lost.
"""

from __future__ import annotations

import logging
from datetime import datetime, timezone

from flowherd.agent.connection import Connection
from flowherd.errors import BackendError
from flowherd.states import RunState
from flowherd.values import FlowRun, LogLine, StateReport


def write_line(
    connection: Connection, log: logging.Logger, agent_name: str, flow_run: FlowRun, text: str, level: int
) -> None:
    """Write one of the agent's own lines to a run's log, after a pause that the backend has asked for."""
    line = LogLine(
        flow_run_id=flow_run.id,
        at=datetime.now(timezone.utc),
        stream="flowherd",
        level=level,
        logger=agent_name,
        message=text,
    )
    try:
        connection.wait_until_open()
        connection.requests.write_logs([line])
    except BackendError as error:
        log.warning("A line for the log of flow run %s is lost: %s", flow_run.id, error)


def report_failure(
    connection: Connection, log: logging.Logger, flow_run: FlowRun, claim: str, error: BaseException
) -> None:
    """Report a flow run that could not be deployed as Failed, after a pause that the backend has asked for."""
    report = StateReport(
        flow_run_id=flow_run.id,
        state=RunState.FAILED,
        message=str(error) or type(error).__name__,
        at=datetime.now(timezone.utc),
        claim=claim,
    )
    try:
        connection.wait_until_open()
        connection.requests.report(report)
    except BackendError as refusal:
        log.error("Flow run %s could not be marked Failed: %s", flow_run.id, refusal)
