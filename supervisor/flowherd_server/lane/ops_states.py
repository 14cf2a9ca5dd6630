"""states: what is stored of flow runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flowherd_server.lane import given
from flowherd_server.lane.requests import Access, LaneOperation, LaneRequest
from flowherd_server.store.plain import plain

_STATES = "SELECT id, version, state, serialized_state FROM flow_run WHERE id IN (SELECT value FROM json_each(?))"


def _states(request: LaneRequest) -> Mapping[str, Any]:
    """Return id, version, state and serialized_state of these runs; unknown ids are left out."""
    ids = json.dumps(given.uuids(request.given, "flow_run_ids"))
    rows = plain(request.transaction.connection).execute(_STATES, (ids,))
    return {
        "flow_runs": [
            {"id": row[0], "version": row[1], "state": row[2], "serialized_state": json.loads(row[3])} for row in rows
        ]
    }


OPERATIONS = (LaneOperation(name="states", handle=_states, access=Access.READ),)
