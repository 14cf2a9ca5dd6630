"""The runs of one flow that have started, as they come."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from flowherd.backends.graphql.literals import Word
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.json_values import text, text_or_none
from flowherd.client.queries import select, state_in
from flowherd.client.runs import RunSummary
from flowherd.states import ACTIVE

#: Number of the newest runs that are looked at.
_NEWEST = 50
_FIELDS = "id name state state_message"


class StartedRuns:
    """The runs of the flow with this name that run now, and those that start later. Raises as other requests do."""

    def __init__(self, transport: GraphQLTransport, flow: str, project: str | None = None) -> None:
        self._transport = transport
        self._flow: dict[str, Any] = {"name": {"_eq": flow}}
        if project is not None:
            self._flow["project"] = {"name": {"_eq": project}}
        #: Ids of runs that had ended before the first look.
        self._earlier: set[str] | None = None

    def newest(self) -> RunSummary | None:
        """Return the run that started last."""
        found = self._started(1)
        return found[0] if found else None

    def running(self) -> list[RunSummary]:
        """Return the runs that run now."""
        return self._select(state_in(ACTIVE), limit=None)

    def look(self, watched: Collection[str]) -> list[RunSummary]:
        """Return the runs with the ids in `watched`, and all that have started since the first look.

        More than 50 starts between two looks are not noticed.
        """
        started = self._started(_NEWEST)
        if self._earlier is None:
            self._earlier = {run.id for run in started if run.finished}
            found = {run.id: run for run in (*started, *self.running()) if not run.finished}
        else:
            found = {run.id: run for run in started if run.id not in self._earlier}
        missing = set(watched) - set(found)
        if missing:
            found |= {run.id: run for run in self._select({"id": {"_in": sorted(missing)}}, limit=None)}
        return list(found.values())

    def _started(self, count: int) -> list[RunSummary]:
        return self._select({"start_time": {"_is_null": False}}, limit=count, order_by={"start_time": Word("desc")})

    def _select(self, where: Mapping[str, Any], **given: Any) -> list[RunSummary]:
        return select(self._transport, "flow_run", _FIELDS, _summary, where={"flow": self._flow, **where}, **given)


def _summary(row: Mapping[str, Any]) -> RunSummary:
    return RunSummary(
        id=text(row["id"]),
        name=text_or_none(row["name"]) or "",
        state=text_or_none(row["state"]) or "",
        message=text_or_none(row["state_message"]),
    )
