"""Build the inputs of mutations: states, claims and log lines in the API's format."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from flowherd.shown_text import storable
from flowherd.values import Claim, LogLine, StateReport, deciding_task_run, waiting_task_runs


def state_input(report: StateReport, wrapped: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the state of a report; `wrapped` is the state that a claim keeps inside."""
    ours = {
        "claim": report.claim,
        "at": report.at.isoformat(),
        "pid": report.pid,
        "reason": report.reason,
        "grade": report.grade,
        "phases": dict(report.phases) or None,
        "figures": dict(report.figures) or None,
    }
    state: dict[str, Any] = {
        "type": report.state.value,
        "message": storable(report.message),
        "context": {"flowherd": {name: value for name, value in ours.items() if value is not None}},
        "cached_inputs": {},
        "_result": {"type": "NoResultType"},
    }
    if wrapped is not None:
        state["state"] = dict(wrapped)
    return state


def change_input(report: StateReport, *, with_account: bool = False) -> dict[str, Any]:
    """Return a report as an entry of `set_flow_run_states`; `with_account` for servers that keep accounts."""
    state = state_input(report)
    if with_account and report.account is not None:
        state["context"]["flowherd"]["account"] = dict(report.account)
    return {"flow_run_id": report.flow_run_id, "version": report.version, "state": state}


def claim_input(claim: Claim) -> dict[str, Any]:
    """Return a claim for `claim_runs`: by the run's version, or through its task runs, of which the first decides."""
    flow_run = claim.flow_run
    through_task_runs = deciding_task_run(flow_run) is not None
    return {
        "flow_run_id": flow_run.id,
        "version": None if through_task_runs else flow_run.version,
        "claim": claim.token,
        "task_runs": [{"task_run_id": one.id, "version": one.version} for one in waiting_task_runs(flow_run)],
    }


def log_input(line: LogLine, *, with_id: bool) -> dict[str, Any]:
    """Return a log line; `with_id` for servers that store a line with the same id only once."""
    log: dict[str, Any] = {
        "flow_run_id": line.flow_run_id,
        "task_run_id": line.task_run_id,
        "timestamp": line.at.isoformat(),
        "name": line.logger,
        "level": _level_name(line.level),
        "message": line.message,
        "info": {**(line.info or {}), "stream": line.stream},
    }
    if with_id and line.line_id is not None:
        log["line_id"] = line.line_id
    if line.so_far:
        log["so_far"] = True
    return log


def _level_name(level: int) -> str:
    """Return the standard name at or below `level`: Prefect's server rejects a batch with any other name."""
    for number in (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO):
        if level >= number:
            return logging.getLevelName(number)
    return "DEBUG"
