"""claim: claiming many runs, each for itself; the same as claim_runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowherd_server.graphql.unstorable import check_storable
from flowherd_server.lane import given
from flowherd_server.lane.requests import Access, LaneOperation, LaneRequest
from flowherd_server.mutations.claim_runs import checked_claims, claim_runs


def _claim(request: LaneRequest) -> Mapping[str, Any]:
    """Return for each claim whether it is won, and if not, why."""
    claims = [_read(each) for each in given.objects(request.given, "claims")]
    check_storable("claims", claims)
    return claim_runs(request.transaction, checked_claims({"claims": claims}))


def _read(claim: given.Given) -> Mapping[str, Any]:
    return {
        "flow_run_id": given.uuid(claim, "flow_run_id"),
        "version": given.number_or_none(claim, "version"),
        "claim": given.text(claim, "claim"),
        "task_runs": [
            {"task_run_id": given.uuid(each, "task_run_id"), "version": given.number_or_none(each, "version")}
            for each in given.objects(claim, "task_runs")
        ],
    }


OPERATIONS = (LaneOperation(name="claim", handle=_claim, access=Access.DURABLE),)
