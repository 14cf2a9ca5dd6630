"""Changes of runs that a person asks for: cancel, delete and repeat them, at any server of the dialect.

flowherd's own server does this for many runs in one request; at others each run is a request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flowherd.backends.graphql.transport import RETRY, SEVERAL_RUNS, GraphQLTransport
from flowherd.backends.json_values import mapping, mapping_or_none, mappings_not_null, text, text_or_none
from flowherd.client.queries import batches, create, is_flowherd_server, select, understanding
from flowherd.client.runs import Runs, RunView
from flowherd.errors import BackendRefused, InvalidRequest, NotFound
from flowherd.states import TAKEN


@dataclass(frozen=True, kw_only=True)
class RunChange:
    """What became of a change of one run."""

    id: str
    #: State of the run afterwards, or in which it was deleted; None if there is no such run.
    state: str | None
    #: Whether the run was changed: False for one that had ended before it was cancelled, or that was not deleted.
    done: bool


@dataclass(frozen=True, kw_only=True)
class RunRepeat:
    """What became of the repetition of one run."""

    #: Id of the run that is repeated.
    repeats: str
    #: Id of the new run; None if there is none.
    id: str | None
    #: Why there is none.
    problem: str | None = None


class RunChanges:
    """Changes of runs at one server. Every method raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport, runs: Runs) -> None:
        self._transport = transport
        self._runs = runs

    def cancel(self, run_ids: Sequence[str]) -> list[RunChange]:
        """Ask for the end of runs; one that has ended stays as it is."""
        if self._has(SEVERAL_RUNS):
            return self._in_batches("cancel_flow_runs", run_ids)
        return self._one_by_one(run_ids, self._cancel_one)

    def delete(self, run_ids: Sequence[str]) -> list[RunChange]:
        """Delete runs with their logs, except those that an agent has and that have not ended."""
        if self._has(SEVERAL_RUNS):
            return self._in_batches("delete_flow_runs", run_ids)
        return self._one_by_one(run_ids, self._delete_one)

    def remembers_repeats(self) -> bool:
        """Return whether the server stores which run a run repeats."""
        return self._has(RETRY)

    def repeat(self, runs: Sequence[RunView], *, latest: bool) -> list[RunRepeat]:
        """Create a run with the parameters of each of these runs, which must have ended.

        It has the same version, labels and run config, or with `latest` the newest version. Another server than
        flowherd's gives it the flow's run config, and creates none of a version that was replaced.
        """
        if self._has(RETRY):
            return self._repeat_in_batches([run.id for run in runs], latest)
        return [self._repeat_one(run, latest) for run in runs]

    def _repeat_in_batches(self, run_ids: Sequence[str], latest: bool) -> list[RunRepeat]:
        found: list[RunRepeat] = []
        for some in batches(run_ids):
            given = {"flow_run_ids": some, "latest": latest}
            answer = self._transport.mutate("retry_flow_runs", given, "flow_runs { flow_run_id id message }")
            with understanding(self._transport, "the answer to retry_flow_runs"):
                found += [
                    RunRepeat(
                        repeats=text(row["flow_run_id"]),
                        id=text_or_none(row["id"]),
                        problem=text_or_none(row["message"]),
                    )
                    for row in mappings_not_null(answer["flow_runs"])
                ]
        return found

    def _repeat_one(self, run: RunView, latest: bool) -> RunRepeat:
        try:
            if not run.finished:
                raise InvalidRequest(f"flow run {run.id} is {run.state}; only a run that has ended can be repeated")
            return RunRepeat(repeats=run.id, id=self._create_like(run, latest))
        except (InvalidRequest, NotFound, BackendRefused) as error:
            return RunRepeat(repeats=run.id, id=None, problem=str(error))

    def _create_like(self, run: RunView, latest: bool) -> str:
        fields = "context flow { id version_group_id archived }"
        found = select(self._transport, "flow_run", fields, _origin, where={"id": {"_eq": run.id}}, limit=1)
        if not found:
            raise NotFound(f"the run {run.id} no longer exists; it was deleted or pruned")
        context, flow_id, version_group_id, archived = found[0]
        if archived and not latest:
            raise InvalidRequest(
                f"the version of {run.flow} that {run.name} ran was replaced, and {self._transport.origin} creates no "
                "runs of it; --latest repeats the run with the newest version"
            )
        which = {"version_group_id": version_group_id} if latest else {"flow_id": flow_id}
        labels = None if latest else list(run.labels)
        given = {**which, "parameters": dict(run.parameters), "context": context, "labels": labels}
        values = {key: value for key, value in given.items() if value is not None}
        return create(self._transport, "create_flow_run", values)

    def _has(self, extension: str) -> bool:
        if self._transport.server_version is None:  # nothing was asked yet, or it is another server
            is_flowherd_server(self._transport)
        return extension in self._transport.server_extensions

    def _in_batches(self, operation: str, run_ids: Sequence[str]) -> list[RunChange]:
        found: list[RunChange] = []
        for some in batches(run_ids):
            answer = self._transport.mutate(operation, {"flow_run_ids": some}, "flow_runs { flow_run_id state done }")
            with understanding(self._transport, f"the answer to {operation}"):
                found += [
                    RunChange(id=text(row["flow_run_id"]), state=text_or_none(row["state"]), done=bool(row["done"]))
                    for row in mappings_not_null(answer["flow_runs"])
                ]
        return found

    def _one_by_one(self, run_ids: Sequence[str], change: Callable[[RunView], RunChange]) -> list[RunChange]:
        known = {run.id: run for run in self._runs.by_ids(run_ids)}
        missing = (RunChange(id=run_id, state=None, done=False) for run_id in run_ids if run_id not in known)
        return [*(change(known[run_id]) for run_id in run_ids if run_id in known), *missing]

    def _cancel_one(self, run: RunView) -> RunChange:
        state = run.state if run.finished else self._runs.cancel(run.id)
        return RunChange(id=run.id, state=state, done=not run.finished)

    def _delete_one(self, run: RunView) -> RunChange:
        # At these servers an agent may take the run in this moment; it then finds that there is none.
        may_be_deleted = run.state not in TAKEN
        if may_be_deleted:
            self._transport.mutate("delete_flow_run", {"flow_run_id": run.id}, "success")
        return RunChange(id=run.id, state=run.state, done=may_be_deleted)


def _origin(row: Any) -> tuple[dict[str, Any] | None, str, str, bool]:
    flow, context = mapping(row["flow"]), mapping_or_none(row["context"])
    archived = flow["archived"] is True
    return (None if context is None else dict(context)), text(flow["id"]), text(flow["version_group_id"]), archived
