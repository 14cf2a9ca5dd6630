"""report: log lines, then states, of any number of runs, in one transaction: a log is stored before its run ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowherd.states import EVENT_OF_REPORT
from flowherd_server.graphql.unstorable import check_storable
from flowherd_server.lane import given
from flowherd_server.lane.requests import Access, LaneOperation, LaneRequest
from flowherd_server.mutations.set_flow_run_states import set_flow_run_states
from flowherd_server.mutations.state_reports import read_reports
from flowherd_server.mutations.write_run_logs import read_logs, write_logs
from flowherd_server.runs.state_history import FLOW_RUNS


def _report(request: LaneRequest) -> Mapping[str, Any]:
    """Store `logs`, as write_run_logs, and then `states`, as set_flow_run_states; all of it or nothing."""
    states = [_state(each) for each in given.objects(request.given, "states")]
    check_storable("states", states)
    reports = read_reports({"states": states}, FLOW_RUNS, EVENT_OF_REPORT)
    logs = read_logs(given.objects(request.given, "logs"))
    if logs.lines or logs.so_far:
        write_logs(request.transaction, logs)
    set_flow_run_states(request.transaction, reports)
    return {}


def _state(state: given.Given) -> Mapping[str, Any]:
    return {
        "flow_run_id": given.uuid(state, "flow_run_id"),
        "version": given.number_or_none(state, "version"),
        "state": state.get("state"),
    }


OPERATIONS = (LaneOperation(name="report", handle=_report, access=Access.DURABLE),)
