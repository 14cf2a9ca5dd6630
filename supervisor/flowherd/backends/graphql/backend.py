"""The agent's part of the dialect: flowherd's words into Prefect's and back. Field lists are the real clients'."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from loguru import logger

from flowherd.backends import json_values
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.protocol import ServerCapabilities
from flowherd.errors import BackendRefused, BackendUnavailable, ClaimLost, NotAuthorized
from flowherd.states import CLAIMABLE, RunState
from flowherd.values import (
    AgentIdentity,
    EngineAccess,
    Flow,
    FlowRun,
    LogLine,
    RunAtBackend,
    StateReport,
    StoredState,
    TaskRun,
    Wake,
    checked_id,
    deciding_task_run,
    waiting_task_runs,
)

#: A waiting task run of a running flow run must have been due this long, as the original agent has it: its flow's
#: own process gets the first chance.
_TASK_RUN_AGE_S = 3.0
#: Beyond the server's own limit of a wait, before the connection counts as broken.
_WAKE_MARGIN_S = 10.0
#: Of one answer; more than any host can start between two polls.
_MOST_RUNS = 1000

T = TypeVar("T")

_TASK_RUNS = 'task_runs(where: {{state_start_time: {{_lte: "{due}"}}}}) {{ id version task_id serialized_state }}'
#: What is asked of a flow run and of its flow, the newest servers first; the last is what servers of 0.13's days know.
_FIELDS = (
    ("name scheduled_start_time run_config labels", "run_config core_version"),
    ("name scheduled_start_time run_config", "run_config"),
    ("", "core_version"),
    ("", ""),
)


class GraphQLBackend:
    """`Backend` over the Prefect 0.x/1.x dialect."""

    engine = "prefect1"

    def __init__(self, transport: GraphQLTransport) -> None:
        self.address = transport.endpoint
        self._transport = transport
        self._tenant_id: str | None = None
        self._agent_id: str | None = None
        #: How far down _FIELDS this server made us go.
        self._fields = 0
        #: Whether the server knows line ids; None until it was asked.
        self._line_ids: bool | None = None
        #: Ids of runs that were left out and told of.
        self._told: set[str] = set()

    def connect(self) -> ServerCapabilities:
        """Say hello, and learn the tenant and what the server can do."""
        self._transport.execute("query { hello }")
        with self._decoding("the tenants"):
            tenants = json_values.mappings(self._transport.execute("query { tenant { id } }").get("tenant"))
            self._tenant_id = json_values.text(tenants[0]["id"]) if tenants else None
        ours = self._transport.server_version
        self._line_ids = ours is not None
        if ours is None:
            return ServerCapabilities(name="Prefect Server")
        return ServerCapabilities(name=f"flowherd server {ours}", arbitrates=True, knows_line_ids=True, wakes=True)

    def check_token(self) -> None:
        """Raises NotAuthorized unless the server knows the token as one of scope RUNNER."""
        with self._decoding("the token's scope"):
            answer = self._transport.execute("query { auth_info { api_token_scope } }")
            info = json_values.mapping(answer.get("auth_info") or {})
        if info.get("api_token_scope") != "RUNNER":
            raise NotAuthorized("the agent's token does not have the scope RUNNER; create one that has")

    def register(self, identity: AgentIdentity) -> str:
        """Make the agent known; every later request carries its id."""
        answer = self._mutate(
            "register_agent",
            {
                "type": identity.type,
                "name": identity.name,
                "labels": list(identity.labels),
                "tenant_id": self._tenant_id,
            },
            "id",
        )
        with self._decoding("the agent's id"):
            self._agent_id = json_values.header_value(answer["id"])
        self._transport.attach_headers({"X-PREFECT-AGENT-ID": self._agent_id})
        return self._agent_id

    def ready_runs(self, labels: Sequence[str], exclude: Collection[str]) -> list[FlowRun]:
        """What the queue lists for these labels and what is to be started of it."""
        now = datetime.now(timezone.utc)
        queue = {"before": now.isoformat(), "labels": list(labels), "tenant_id": self._tenant_id}
        listed = self._mutate("get_runs_in_queue", queue, "flow_run_ids").get("flow_run_ids")
        with self._decoding("the queue"):
            listed = json_values.sequence(listed)[:_MOST_RUNS]
        ids = [run_id for run_id in listed if self._usable(run_id, checked_id) and run_id not in exclude]
        if not ids:
            return []
        with self._decoding("the flow runs"):
            rows = {row["id"]: row for row in self._details(ids, now) if isinstance(row.get("id"), str)}
        found = (self._usable(rows[run_id], _flow_run) for run_id in dict.fromkeys(ids) if run_id in rows)
        return [flow_run for flow_run in found if flow_run is not None and _can_be_taken(flow_run)]

    def claim(self, flow_run: FlowRun, token: str) -> None:
        """Submitted, wrapping the state that it was in; its waiting task runs likewise."""
        submitted = StateReport(
            flow_run_id=flow_run.id,
            state=RunState.SUBMITTED,
            message="Submitted for execution",
            at=datetime.now(timezone.utc),
            claim=token,
        )
        deciding = deciding_task_run(flow_run)
        if deciding is None:
            wrapped = _state_json(submitted, wrapped=flow_run.serialized_state)
            self._set_flow_run_state(flow_run.id, flow_run.version, wrapped)
        else:
            self._submit_task_run(deciding, submitted)
        for task_run in waiting_task_runs(flow_run):
            if task_run is not deciding:
                # One that has gone on meanwhile is its engine's business; the flow run is ours all the same.
                with contextlib.suppress(ClaimLost):
                    self._submit_task_run(task_run, submitted)

    def _submit_task_run(self, task_run: TaskRun, submitted: StateReport) -> None:
        state = _state_json(submitted, wrapped=task_run.serialized_state)
        change = {"task_run_id": task_run.id, "version": task_run.version, "state": state}
        self._mutate("set_task_run_states", {"states": [change]}, "states { id status message }")

    def report(self, report: StateReport) -> None:
        """Set the state."""
        self._set_flow_run_state(report.flow_run_id, report.version, _state_json(report))

    def write_logs(self, lines: Sequence[LogLine]) -> None:
        """One request for all the lines."""
        if self._line_ids is None:
            self.connect()
        # As learned then, not by the latest answer, which may be a proxy's: lines without ids would be doubled.
        logs = [_log_json(line, with_id=bool(self._line_ids)) for line in lines]
        answer = self._mutate("write_run_logs", {"logs": logs}, "success")
        if not answer.get("success"):
            raise BackendRefused("the server did not take the logs")

    def heartbeat(self, flow_run_ids: Collection[str]) -> None:
        """One heartbeat a run, all in one request."""
        if not flow_run_ids:
            return
        parts = [
            f"h{n}: update_flow_run_heartbeat(input: {{flow_run_id: {json.dumps(run_id)}}}) {{ success }}"
            for n, run_id in enumerate(flow_run_ids)
        ]
        self._transport.execute("mutation { " + " ".join(parts) + " }")

    def stored_states(self, flow_run_ids: Collection[str]) -> dict[str, StoredState]:
        """What the server holds for these runs."""
        if not flow_run_ids:
            return {}
        where = f"{{id: {{_in: {json.dumps(sorted(flow_run_ids))}}}}}"
        rows = self._transport.execute(f"query {{ flow_run(where: {where}) {{ id version state serialized_state }} }}")
        with self._decoding("the states"):
            stored = (_stored_state(row) for row in json_values.mappings(rows["flow_run"]))
            return {state.flow_run_id: state for state in stored if state.flow_run_id in flow_run_ids}

    def confirm_claim(self, flow_run_id: str, token: str) -> None:
        """Nothing to make sure of: a claim names the version of the run that it is for."""

    def stored_task_states(self, task_run_ids: Collection[str]) -> dict[str, StoredState]:
        """What the server holds for these task runs."""
        if not task_run_ids:
            return {}
        where = f"{{id: {{_in: {json.dumps(sorted(task_run_ids))}}}}}"
        fields = "id flow_run_id version state serialized_state"
        rows = self._transport.execute(f"query {{ task_run(where: {where}) {{ {fields} }} }}")
        with self._decoding("the states of task runs"):
            return {
                json_values.text(row["id"]): _stored_state({**row, "id": row["flow_run_id"]})
                for row in json_values.mappings(rows["task_run"])
            }

    def standing(self, flow_run_id: str) -> RunAtBackend | None:
        """One query for the run and for those of its task runs that wait."""
        waiting = json.dumps(sorted(CLAIMABLE))
        fields = f"state task_runs(where: {{state: {{_in: {waiting}}}}}) {{ state }}"
        where = f"{{id: {{_eq: {json.dumps(flow_run_id)}}}}}"
        answer = self._transport.execute(f"query {{ flow_run(where: {where}) {{ {fields} }} }}")
        with self._decoding("the run's state"):
            for row in json_values.mappings(answer["flow_run"]):
                tasks = json_values.mappings(row.get("task_runs"))
                return RunAtBackend(
                    state=RunState(row["state"]), waiting=frozenset(RunState(task["state"]) for task in tasks)
                )
        return None

    def engine_access(self) -> EngineAccess | None:
        """The same address and token as here."""
        transport = self._transport
        return EngineAccess(
            api=transport.api, endpoint=transport.endpoint, token=transport.token, tenant_id=self._tenant_id
        )

    def engine_variables(self) -> Mapping[str, str]:
        """None: what Prefect's engine made of its environment at import is renewed for each run."""
        return {}

    def wait_for_wake(self, seen: int, timeout_s: float) -> Wake:
        """Hold a request that the server answers when there is something."""
        answer = self._transport.get(
            f"/agents/{self._agent_id}/wake", {"seen": seen, "timeout": timeout_s}, timeout_s + _WAKE_MARGIN_S
        )
        with self._decoding("the wake"):
            return Wake(sequence=json_values.whole(json_values.mapping(answer)["sequence"]))

    def close(self) -> None:
        """Close this thread's connection."""
        self._transport.close()

    @contextlib.contextmanager
    def _decoding(self, what: str) -> Iterator[None]:
        """What comes from outside may have any shape; one that is not the dialect's is as good as no answer."""
        try:
            yield
        except json_values.NOT_THE_DIALECT as error:
            raise BackendUnavailable(f"cannot understand {what} that {self.address} sent: {error!r:.200}") from error

    def _usable(self, value: Any, read: Callable[[Any], T]) -> T | None:
        """What `read` makes of one run's part of an answer; None, and a word about it once, when it cannot be read.

        One bad run must not keep all others from being started.
        """
        try:
            return read(value)
        except json_values.NOT_THE_DIALECT as error:
            about = f"{value.get('id') if isinstance(value, dict) else value!r}"[:80]
            if about not in self._told and len(self._told) < _MOST_RUNS:
                self._told.add(about)
                logger.warning("Left out flow run {}, its description cannot be understood: {!r:.200}", about, error)
            return None

    def _details(self, ids: Sequence[str], now: datetime) -> list[Mapping[str, Any]]:
        due = (now - timedelta(seconds=_TASK_RUN_AGE_S)).isoformat()
        where = (
            f'{{id: {{_in: {json.dumps(ids)}}}, _or: [{{state: {{_eq: "Scheduled"}}}}, '
            f'{{state: {{_eq: "Running"}}, task_runs: {{state_start_time: {{_lte: "{due}"}}}}}}]}}'
        )
        refusal: BackendRefused | None = None
        for number in range(self._fields, len(_FIELDS)):
            try:
                rows = self._rows(where, number, due)
            except NotAuthorized:
                raise
            except BackendRefused as error:  # perhaps a server that does not know all the fields
                refusal = error
                continue
            self._fields = number
            return rows
        assert refusal is not None, "the last fields are asked for, or were refused"
        raise refusal

    def _rows(self, where: str, number: int, due: str) -> list[Mapping[str, Any]]:
        of_run, of_flow = _FIELDS[number]
        flow = f"flow {{ id name environment storage version {of_flow} }}"
        fields = f"id version state serialized_state parameters {of_run} {flow} {_TASK_RUNS.format(due=due)}"
        answer = self._transport.execute(f"query {{ flow_run(where: {where}) {{ {fields} }} }}")
        return json_values.mappings(answer["flow_run"])

    def _set_flow_run_state(self, flow_run_id: str, version: int | None, state: Mapping[str, Any]) -> None:
        change = {"flow_run_id": flow_run_id, "version": version, "state": state}
        self._mutate("set_flow_run_states", {"states": [change]}, "states { id status message }")

    def _mutate(self, name: str, value: Mapping[str, Any], selection: str) -> dict[str, Any]:
        query = f"mutation($input: {name}_input!) {{ {name}(input: $input) {{ {selection} }} }}"
        answer = self._transport.execute(query, {"input": value}).get(name)
        if not isinstance(answer, dict):
            raise BackendUnavailable(f"{self.address} gave no answer to {name}")
        return answer


def _state_json(report: StateReport, wrapped: Mapping[str, Any] | None = None) -> dict[str, Any]:
    ours = {
        "claim": report.claim,
        "at": report.at.isoformat(),
        "pid": report.pid,
        "reason": report.reason,
        "grade": report.grade,
    }
    state: dict[str, Any] = {
        "type": report.state.value,
        "message": report.message,
        "context": {"flowherd": {name: value for name, value in ours.items() if value is not None}},
        "cached_inputs": {},
        "_result": {"type": "NoResultType"},
    }
    if wrapped is not None:
        state["state"] = dict(wrapped)
    return state


def _log_json(line: LogLine, with_id: bool) -> dict[str, Any]:
    log: dict[str, Any] = {
        "flow_run_id": line.flow_run_id,
        "task_run_id": line.task_run_id,
        "timestamp": line.at.isoformat(),
        "name": line.logger,
        "level": _level_name(line.level),
        "message": line.message,
        "info": {"stream": line.stream},
    }
    if with_id and line.line_id is not None:
        log["line_id"] = line.line_id
    return log


def _level_name(level: int) -> str:
    """The standard name at or below `level`: the real server's log_level knows no others and rejects the batch."""
    for number in (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO):
        if level >= number:
            return logging.getLevelName(number)
    return "DEBUG"


def _flow_run(row: Mapping[str, Any]) -> FlowRun:
    flow = json_values.mapping(row["flow"])
    run_id = checked_id(row["id"])
    return FlowRun(
        id=run_id,
        name=json_values.text_or_none(row.get("name")) or run_id,
        version=json_values.whole(row["version"]),
        state=RunState(row["state"]),
        serialized_state=json_values.mapping(row["serialized_state"] or {}),
        parameters=json_values.mapping(row.get("parameters") or {}),
        run_config=json_values.mapping_or_none(row.get("run_config")),
        scheduled_start_time=json_values.time_or_none(row.get("scheduled_start_time")),
        labels=_labels(row, flow),
        flow=Flow(
            id=json_values.text(flow["id"]),
            name=json_values.text(flow["name"]),
            version=json_values.whole_or_none(flow.get("version")),
            storage=json_values.mapping(flow.get("storage") or {}),
            run_config=json_values.mapping_or_none(flow.get("run_config")),
            environment=json_values.mapping_or_none(flow.get("environment")),
            core_version=json_values.text_or_none(flow.get("core_version")),
        ),
        task_runs=tuple(_task_runs(json_values.mappings(row.get("task_runs")))),
    )


def _can_be_taken(flow_run: FlowRun) -> bool:
    """Not one that goes on and whose task runs wait for nobody: somebody has been faster between two queries."""
    return flow_run.state in CLAIMABLE or deciding_task_run(flow_run) is not None


def _labels(row: Mapping[str, Any], flow: Mapping[str, Any]) -> tuple[str, ...]:
    """The run's own, or on servers that have none those of the first place where a flow keeps them."""
    for place in (row, row.get("run_config"), flow.get("run_config"), flow.get("environment")):
        labels = place.get("labels") if isinstance(place, Mapping) else None
        if labels is not None:
            return tuple(json_values.text(label) for label in json_values.sequence(labels))
    return ()


def _task_runs(rows: Iterable[Mapping[str, Any]]) -> Iterable[TaskRun]:
    for row in rows:
        yield TaskRun(
            id=json_values.text(row["id"]),
            task_id=json_values.text(row["task_id"]),
            version=json_values.whole(row["version"]),
            serialized_state=json_values.mapping(row["serialized_state"] or {}),
        )


def _stored_state(row: Mapping[str, Any]) -> StoredState:
    state = json_values.mapping(row["serialized_state"] or {})
    context = state.get("context")
    ours = context.get("flowherd") if isinstance(context, Mapping) else None
    claim = ours.get("claim") if isinstance(ours, Mapping) else None
    message = state.get("message")
    return StoredState(
        flow_run_id=json_values.text(row["id"]),
        version=json_values.whole(row["version"]),
        state=RunState(row["state"]),
        message=message if isinstance(message, str) else None,
        claim=claim if isinstance(claim, str) else None,
    )
