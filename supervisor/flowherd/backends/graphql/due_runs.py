"""Find the flow runs that are due: what the queue lists, with the details that a start needs.

The field lists are those of Prefect's own clients.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from flowherd.backends import json_values
from flowherd.backends.decoding import UnreadableRuns, decoding
from flowherd.backends.graphql.questions import Question, Questions
from flowherd.backends.graphql.run_rows import flow_run
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.errors import BackendRefused, NotAuthorized
from flowherd.states import CLAIMABLE
from flowherd.values import FlowRun, checked_id, deciding_task_run

#: How long a waiting task run of a running flow run must have been due, seconds: the flow's own process goes first.
#: Prefect's own agent has the same.
_TASK_RUN_AGE_S = 3.0
#: Maximum number of runs read from one answer; more than any host can start between two polls.
_MAX_RUNS = 1000

_WAITING = (
    '{id: {_in: $ids}, _or: [{state: {_eq: "Scheduled"}}, '
    '{state: {_eq: "Running"}, task_runs: {state_start_time: {_lte: $due}}}]}'
)
_TASK_RUNS = "task_runs(where: {state_start_time: {_lte: $due}}) { id version task_id serialized_state }"
#: Fields of a flow run and of its flow to ask for, newest servers first; servers of Prefect 0.13 know only the last.
_FIELDS = (
    ("name scheduled_start_time run_config labels", "run_config core_version parameters"),
    ("name scheduled_start_time run_config labels", "run_config core_version"),
    ("name scheduled_start_time run_config", "run_config"),
    ("", "core_version parameters"),
    ("", "core_version"),
    ("", ""),
)
_QUESTIONS = tuple(
    Question(
        "$ids: [uuid!]!, $due: timestamptz!",
        f"flow_run(where: {_WAITING}) {{ id version state serialized_state parameters {run_fields} "
        f"flow {{ id name environment storage version {flow_fields} }} {_TASK_RUNS} }}",
    )
    for run_fields, flow_fields in _FIELDS
)

T = TypeVar("T")


class DueRuns:
    """Finds due flow runs; remembers which fields the server knows."""

    def __init__(self, transport: GraphQLTransport, questions: Questions) -> None:
        self._transport = transport
        self._questions = questions
        #: Index in _FIELDS of the first fields that this server has accepted.
        self._fields_index = 0
        self._unreadable = UnreadableRuns()

    def find(
        self, labels: Sequence[str], exclude: Collection[str], room: int | None, tenant_id: str | None
    ) -> list[FlowRun]:
        """Return the runs that the queue lists for these labels and that can be claimed, without those in `exclude`.

        Asks for the details of as many runs as the agent has `room` for; None means for any number.
        """
        now = datetime.now(timezone.utc)
        queue = {"before": now.isoformat(), "labels": list(labels), "tenant_id": tenant_id}
        listed = self._transport.mutate("get_runs_in_queue", queue, "flow_run_ids").get("flow_run_ids")
        with decoding("the queue", self._transport.endpoint):
            listed = json_values.sequence(listed)[:_MAX_RUNS]
        ids = [run_id for run_id in listed if self._readable(run_id, checked_id) and run_id not in exclude]
        waiting = list(dict.fromkeys(ids))
        most = len(waiting) if room is None else room
        found = self._claimable(waiting[:most], now)
        if len(found) < most:  # some of the first cannot be claimed
            found += self._claimable(waiting[most:], now)
        return found[:most]

    def _claimable(self, ids: Sequence[str], now: datetime) -> list[FlowRun]:
        if not ids:
            return []
        with decoding("the flow runs", self._transport.endpoint):
            rows = {row["id"]: row for row in self._details(ids, now) if isinstance(row.get("id"), str)}
        found = (self._readable(rows[run_id], flow_run) for run_id in ids if run_id in rows)
        return [run for run in found if run is not None and _can_be_claimed(run)]

    def offered(
        self,
        holder: str,
        labels: Sequence[str],
        exclude: Collection[str],
        room: int | None,
        tenant_id: str | None,
        report: Mapping[str, Any] | None,
    ) -> list[FlowRun]:
        """Return the runs that the server offers to the agent that calls itself `holder` and reports this of itself."""
        asked: dict[str, Any] = {"holder": holder, "labels": [*labels], "exclude": [*exclude], "room": room}
        asked["tenant_id"] = tenant_id
        if report is not None:
            asked["report"] = report
        listed = self._transport.mutate("offer_runs", asked, "flow_runs").get("flow_runs")
        with decoding("the offered flow runs", self._transport.endpoint):
            rows = json_values.sequence(listed)
        return [run for run in self.read(rows) if run.id not in exclude]

    def read(self, rows: Sequence[Any]) -> list[FlowRun]:
        """Return the flow runs of these rows that can be claimed; what cannot be read is left out."""
        readable = (self._readable(row, flow_run) for row in rows[:_MAX_RUNS])
        found = {run.id: run for run in readable if run is not None}
        return [run for run in found.values() if _can_be_claimed(run)]

    def _readable(self, value: Any, read: Callable[[Any], T]) -> T | None:
        """Return `read(value)`; if that is not possible, leave the run out and return None."""
        try:
            return read(value)
        except json_values.DECODING_ERRORS as error:
            self._unreadable.leave_out(value, error)
            return None

    def _details(self, ids: Sequence[str], now: datetime) -> list[Mapping[str, Any]]:
        """Return the rows of these runs, with as many of _FIELDS as the server knows."""
        values = {"ids": list(ids), "due": (now - timedelta(seconds=_TASK_RUN_AGE_S)).isoformat()}
        return self._questions.first_accepted(lambda with_variables: self._known_fields(values, with_variables))

    def _known_fields(self, values: Mapping[str, Any], with_variables: bool) -> list[Mapping[str, Any]]:
        refusal: BackendRefused | None = None
        for index in range(self._fields_index, len(_FIELDS)):
            try:
                answer = self._questions.ask_once(_QUESTIONS[index], values, with_variables)
            except NotAuthorized:
                raise
            except BackendRefused as error:  # perhaps because the server does not know all the fields
                refusal = error
                continue
            self._fields_index = index
            return json_values.mappings(answer["flow_run"])
        assert refusal is not None, "the last fields were either accepted or refused"
        raise refusal


def _can_be_claimed(run: FlowRun) -> bool:
    """Whether the run still waits; between the two queries another agent may have claimed it."""
    return run.state in CLAIMABLE or deciding_task_run(run) is not None
