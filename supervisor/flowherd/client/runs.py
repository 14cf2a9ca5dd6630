"""Flow runs at a server: create, find, cancel."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flowherd.backends import json_values
from flowherd.backends.graphql.literals import Word
from flowherd.backends.graphql.rows import parsed_time
from flowherd.backends.graphql.transport import BY, LIVE_REPORTS, RETRY, GraphQLTransport
from flowherd.backends.json_values import mapping_or_none, sequence, text_or_none
from flowherd.client.queries import create, select, state_in, understanding
from flowherd.client.run_ids import ids_that_begin_with
from flowherd.states import RunState
from flowherd.story.marks import marks
from flowherd.story.records import RunRecord
from flowherd.story.records import RunSummary as RunSummary

if TYPE_CHECKING:
    from flowherd.story.live import RunFigures

#: Number of runs that one text may be found to mean.
_MAX_MATCHES = 10
_NEWEST_FIRST = {"created": Word("desc")}

#: Fields of a run of which `run_of` makes a RunView, at any server.
RUN_FIELDS = (
    "id name state state_message labels parameters agent_id created scheduled_start_time state_start_time start_time "
    "end_time serialized_state flow { name flow_group_id }"
)


@dataclass(frozen=True, kw_only=True)
class RunView(RunRecord):
    """A flow run as the server stores it."""

    #: The same for all versions of the flow; empty at a server that has none.
    flow_group: str = ""
    parameters: Mapping[str, Any]
    #: Pid of the flow process; None if no flowherd agent has reported it.
    pid: int | None
    #: Why it ended, one of flowherd_runner.contract.reasons; None if no flowherd agent has reported it.
    reason: str | None


class Runs:
    """The flow runs of one server. Every method raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport

    def create(
        self,
        flow_id: str,
        *,
        parameters: Mapping[str, Any],
        at: datetime | None = None,
        labels: Sequence[str] | None = None,
        name: str | None = None,
    ) -> str:
        """Create a flow run and return its id. Without `at` it starts now, without `labels` it has the flow's."""
        given = {
            "flow_id": flow_id,
            "parameters": dict(parameters),
            "scheduled_start_time": at.isoformat() if at else None,
            "labels": list(labels) if labels is not None else None,
            "flow_run_name": name,
        }
        values = {key: value for key, value in given.items() if value is not None}
        return create(self._transport, "create_flow_run", values)

    def newest(self, *, states: Collection[str] | None = None, limit: int) -> list[RunView]:
        """Return the newest runs, newest first; with `states` only runs in one of these."""
        return self._select(where=state_in(states) if states is not None else None, limit=limit)

    def get(self, run_id: str) -> RunView | None:
        """Return the run with this id, or None if the server has none."""
        found = self._select(where={"id": {"_eq": run_id}}, limit=1)
        return found[0] if found else None

    def with_figures(self, run_id: str) -> RunView | None:
        """Return the run with this id, what it uses and whether it is stuck; None if the server has none."""
        fields, where = run_fields(self._transport) + live_fields(self._transport), {"id": {"_eq": run_id}}
        found = select(self._transport, "flow_run", fields, run_of, where=where, limit=1)
        return found[0] if found else None

    def by_ids(self, run_ids: Collection[str]) -> list[RunView]:
        """Return the runs with these ids, as far as they exist."""
        return self._select(where={"id": {"_in": sorted(run_ids)}}, limit=len(run_ids)) if run_ids else []

    def summaries(self, run_ids: Collection[str]) -> list[RunSummary]:
        """Return how the runs with these ids are, as far as they exist."""
        where = {"id": {"_in": sorted(run_ids)}}
        fields = "id name state state_message"
        return select(self._transport, "flow_run", fields, _summary, where=where, limit=len(run_ids)) if run_ids else []

    def find(self, text: str) -> list[RunView]:
        """Return the runs that `text` may mean, at most ten: by name, else by the beginning of an id."""
        named = self._select(where={"name": {"_eq": text}}, limit=_MAX_MATCHES)
        ids = ids_that_begin_with(text)
        if named or ids is None:
            return named
        # In the order of ids, because by time a server might look through all runs.
        where, order = {"id": {"_gte": ids[0], "_lte": ids[1]}}, {"id": Word("asc")}
        found = select(self._transport, "flow_run", "id", _id, where=where, order_by=order, limit=_MAX_MATCHES)
        return self.by_ids(found)

    def cancel(self, run_id: str) -> str:
        """Ask the server to cancel a run and return the state that the run is in afterwards."""
        query = "mutation($input: cancel_flow_run_input!) { cancel_flow_run(input: $input) { state } }"
        answer = self._transport.execute(query, {"input": {"flow_run_id": run_id}})
        with understanding(self._transport, "the answer to cancel_flow_run"):
            return json_values.text(answer["cancel_flow_run"]["state"])

    def _select(self, *, where: Mapping[str, Any] | None, limit: int) -> list[RunView]:
        fields = run_fields(self._transport)
        return select(self._transport, "flow_run", fields, run_of, where=where, order_by=_NEWEST_FIRST, limit=limit)


def run_fields(transport: GraphQLTransport) -> str:
    """Return the fields of a run of which `run_of` makes a RunView, as far as this server has them."""
    own = {RETRY: " repeats", BY: " created_by"}
    return RUN_FIELDS + "".join(name for extension, name in own.items() if extension in transport.server_extensions)


def live_fields(transport: GraphQLTransport) -> str:
    """Return the fields of what a running run uses and whether it is stuck, as far as this server has them.

    The server then asks its agents, for a quarter of a second at most.
    """
    return " figures stuck" if LIVE_REPORTS in transport.server_extensions else ""


def _id(row: Mapping[str, Any]) -> str:
    return json_values.text(row["id"])


def _summary(row: Mapping[str, Any]) -> RunSummary:
    return RunSummary(
        id=_id(row),
        name=text_or_none(row["name"]) or "",
        state=text_or_none(row["state"]) or RunState.PENDING.value,
        message=text_or_none(row["state_message"]),
    )


def run_of(row: Mapping[str, Any]) -> RunView:
    """Return the run in a row that has RUN_FIELDS; raises one of DECODING_ERRORS."""
    ours = marks(row)
    return RunView(
        id=_id(row),
        name=text_or_none(row["name"]) or "",
        flow=_in_flow(row, "name"),
        flow_group=_in_flow(row, "flow_group_id"),
        state=text_or_none(row["state"]) or RunState.PENDING.value,
        message=text_or_none(row["state_message"]),
        labels=tuple(map(json_values.text, sequence(row["labels"]))),
        parameters=mapping_or_none(row["parameters"]) or {},
        agent_id=text_or_none(row["agent_id"]),
        pid=ours.pid,
        reason=ours.reason,
        created=parsed_time(row["created"]),
        scheduled_start_time=parsed_time(row["scheduled_start_time"]),
        state_start_time=parsed_time(row["state_start_time"]),
        start_time=parsed_time(row["start_time"]),
        end_time=parsed_time(row["end_time"]),
        repeats=text_or_none(row.get("repeats")),
        figures=None if row.get("figures") is None else _figures(row["figures"]),
        stuck=text_or_none(row.get("stuck")) or "",
        created_by=text_or_none(row.get("created_by")),
    )


def _figures(value: Any) -> RunFigures | None:
    from flowherd.story.live import read_run_figures  # most lists have none

    return next(iter(read_run_figures([value])), None)


def _in_flow(row: Mapping[str, Any], name: str) -> str:
    """Return a text of the run's flow; empty for null."""
    found = mapping_or_none(row["flow"])
    return "" if found is None else text_or_none(found[name]) or ""
