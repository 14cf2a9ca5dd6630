"""wait: answered when a flow run has ended."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from flowherd_server.errors import not_found
from flowherd_server.lane import given
from flowherd_server.lane.requests import Access, LaneOperation, LaneRequest
from flowherd_server.runs.run_ends import EndedRun, EndWait


def _wait(request: LaneRequest) -> Mapping[str, Any] | None:
    """Answer with id, name, state and state_message of the run once it has ended; at once if it has already.

    It opens a read of its own: one that is shared may have begun before the wait.
    """
    connection, ends = request.connection, request.core.ends
    run_id = given.uuid(request.given, "flow_run_id")

    def end() -> None:
        if isinstance(found, EndWait):
            ends.cancel(found)

    def answer(run: EndedRun | None) -> None:
        with contextlib.suppress(ValueError):
            connection.on_close.remove(end)
        if run is not None:
            connection.answer(request.id, {"flow_run": run})

    found: EndWait | EndedRun | None = None
    connection.on_close.append(end)
    found = ends.wait(run_id, answer)
    if isinstance(found, EndWait):
        return None
    connection.on_close.remove(end)
    if found is None:
        raise not_found("flow run", run_id)
    return {"flow_run": found}


OPERATIONS = (LaneOperation(name="wait", handle=_wait, access=Access.NONE),)
