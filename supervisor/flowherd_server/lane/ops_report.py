"""report: logs, then states, of any number of runs, in one transaction: a log is stored before its run ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowherd.states import EVENT_OF_REPORT
from flowherd_server.graphql.unstorable import check_storable
from flowherd_server.lane import given
from flowherd_server.lane.requests import Access, LaneOperation, LaneRequest
from flowherd_server.mutations.set_flow_run_states import set_flow_run_states
from flowherd_server.mutations.state_reports import read_reports
from flowherd_server.mutations.write_journals import write_journals
from flowherd_server.mutations.write_run_logs import read_logs, write_logs
from flowherd_server.runs.state_history import FLOW_RUNS
from flowherd_server.store.journal_lines import Piece


def _report(request: LaneRequest) -> Mapping[str, Any]:
    """Store `journals`, `logs`, as write_run_logs, and `states`, as set_flow_run_states; all of it or nothing."""
    states = [_state(each) for each in given.objects(request.given, "states")]
    check_storable("states", states)
    reports = read_reports({"states": states}, FLOW_RUNS, EVENT_OF_REPORT)
    logs = read_logs(given.objects(request.given, "logs"))
    pieces = _pieces(request)
    ends = write_journals(request.transaction, pieces) if pieces else []
    if logs.lines or logs.so_far:
        write_logs(request.transaction, logs)
    set_flow_run_states(request.transaction, reports)
    return {"journals": ends} if pieces else {}


def _pieces(request: LaneRequest) -> list[Piece]:
    """Return the pieces of journals, whose bytes follow one another in the body."""
    pieces, start = [], 0
    for each in given.objects(request.given, "journals"):
        offset, size = given.number_or_none(each, "offset"), given.number_or_none(each, "size")
        if offset is None or size is None or offset < 0 or not 0 <= size <= len(request.body) - start:
            raise given.BadRequest("a piece of a journal has an offset, and a size within the body")
        data = request.body[start : start + size]
        start += size
        certain = each.get("certain", True) is not False
        pieces.append(Piece(given.uuid(each, "flow_run_id"), given.text(each, "attempt"), offset, data, certain))
    return pieces


def _state(state: given.Given) -> Mapping[str, Any]:
    return {
        "flow_run_id": given.uuid(state, "flow_run_id"),
        "version": given.number_or_none(state, "version"),
        "state": state.get("state"),
    }


OPERATIONS = (LaneOperation(name="report", handle=_report, access=Access.DURABLE),)
