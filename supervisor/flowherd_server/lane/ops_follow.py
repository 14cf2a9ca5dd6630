"""follow: pushes when a flow run has new lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowherd.lane.messages import LINES
from flowherd_server.lane import given
from flowherd_server.lane.requests import Access, LaneOperation, LaneRequest


def _follow(request: LaneRequest) -> Mapping[str, Any]:
    """Push after each commit of lines, or of text so far, of the run, until the connection is closed."""
    connection, followers = request.connection, request.core.followers
    run_id = given.uuid(request.given, "flow_run_id")

    def notify() -> None:
        connection.push(LINES, {"flow_run_id": run_id})

    followers.add(run_id, notify)
    connection.on_close.append(lambda: followers.remove(run_id, notify))
    return {}


OPERATIONS = (LaneOperation(name="follow", handle=_follow, access=Access.NONE),)
