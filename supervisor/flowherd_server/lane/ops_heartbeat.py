"""heartbeat: the runs that an agent keeps are alive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowherd_server.lane import given
from flowherd_server.lane.requests import Access, LaneOperation, LaneRequest
from flowherd_server.store.plain import plain

_BEAT = "UPDATE flow_run SET heartbeat = ? WHERE id = ?"


def _heartbeat(request: LaneRequest) -> Mapping[str, Any]:
    """Note it; unknown ids are passed over."""
    call = request.transaction
    beats = [(call.now, run_id) for run_id in given.uuids(request.given, "flow_run_ids")]
    plain(call.connection).executemany(_BEAT, beats)
    return {}


OPERATIONS = (LaneOperation(name="heartbeat", handle=_heartbeat, access=Access.SOFT),)
