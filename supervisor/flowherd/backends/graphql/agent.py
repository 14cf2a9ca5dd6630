"""The agent's part of the dialect: flowherd's words into Prefect's and back. Field lists are the real clients'."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.protocol import ServerTraits
from flowherd.errors import BackendRefused, BackendUnavailable, NotAuthorized
from flowherd.states import CLAIMABLE, RunState
from flowherd.values import AgentIdentity, Flow, FlowRun, LogLine, StateReport, StoredState, TaskRun, Wake, checked_id

#: A waiting task run of a running flow run must have been due this long, as the original agent has it: its flow's
#: own process gets the first chance.
_TASK_RUN_AGE_S = 3.0
#: Beyond the server's own limit of a wait, before the connection counts as broken.
_WAKE_MARGIN_S = 10.0

_FLOW = "flow { id name environment storage version }"
_TASK_RUNS = 'task_runs(where: {{state_start_time: {{_lte: "{due}"}}}}) {{ id version task_id serialized_state }}'
_RUN_FIELDS = "id version state serialized_state parameters"
#: Known to servers of the 1.x days and to the embedded one.
_NEWER_RUN_FIELDS = "name scheduled_start_time run_config"
_NEWER_FLOW = "flow { id name environment storage version run_config }"


class GraphQLBackend:
    """`Backend` over the Prefect 0.x/1.x dialect."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self.address = transport.endpoint
        self._transport = transport
        self._tenant_id: str | None = None
        self._agent_id: str | None = None
        self._newer_fields = True
        #: Whether the server knows line ids; None until it was asked.
        self._line_ids: bool | None = None

    def connect(self) -> ServerTraits:
        """Say hello, and learn the tenant and what the server can do."""
        self._transport.execute("query { hello }")
        with self._understanding("the tenants"):
            tenants = self._transport.execute("query { tenant { id } }").get("tenant") or []
            self._tenant_id = str(tenants[0]["id"]) if tenants else None
        ours = self._transport.server_version
        self._line_ids = ours is not None
        if ours is None:
            return ServerTraits(name="Prefect Server")
        return ServerTraits(name=f"flowherd server {ours}", arbitrates=True, knows_line_ids=True, wakes=True)

    def check_token(self) -> None:
        """Raises NotAuthorized unless the server knows the token as one of scope RUNNER."""
        info = self._transport.execute("query { auth_info { api_token_scope } }").get("auth_info") or {}
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
        with self._understanding("the agent's id"):
            self._agent_id = str(answer["id"])
        self._transport.attach_headers({"X-PREFECT-AGENT-ID": self._agent_id})
        return self._agent_id

    def ready_runs(self, labels: Sequence[str], exclude: Collection[str]) -> list[FlowRun]:
        """What the queue lists for these labels and what is to be started of it."""
        now = datetime.now(timezone.utc)
        queue = {"before": now.isoformat(), "labels": list(labels), "tenant_id": self._tenant_id}
        listed = self._mutate("get_runs_in_queue", queue, "flow_run_ids").get("flow_run_ids")
        with self._understanding("the queue"):
            ids = [checked_id(run_id) for run_id in listed or () if run_id not in exclude]
        if not ids:
            return []
        with self._understanding("the flow runs"):
            found = {run["id"]: run for run in self._details(ids, now)}
            return [_flow_run(found[run_id]) for run_id in ids if run_id in found]

    def claim(self, flow_run: FlowRun, token: str) -> None:
        """Submitted, wrapping the state that it was in; its waiting task runs likewise."""
        if flow_run.state in CLAIMABLE:
            state = _state_json(
                StateReport(
                    flow_run_id=flow_run.id,
                    state=RunState.SUBMITTED,
                    message="Submitted for execution",
                    at=datetime.now(timezone.utc),
                    claim=token,
                ),
                wrapped=flow_run.serialized_state,
            )
            self._set_flow_run_state(flow_run.id, flow_run.version, state)
        for task_run in flow_run.task_runs:
            if task_run.serialized_state.get("type") in CLAIMABLE:
                submitted = {
                    "type": "Submitted",
                    "message": "Submitted for execution.",
                    "state": task_run.serialized_state,
                }
                change = {"task_run_id": task_run.id, "version": task_run.version, "state": submitted}
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
        with self._understanding("the states"):
            return {row["id"]: _stored_state(row) for row in rows["flow_run"]}

    def wait_for_wake(self, seen: int, timeout_s: float) -> Wake:
        """Hold a request that the server answers when there is something."""
        answer = self._transport.get(
            f"/agents/{self._agent_id}/wake", {"seen": seen, "timeout": timeout_s}, timeout_s + _WAKE_MARGIN_S
        )
        with self._understanding("the wake"):
            return Wake(sequence=int(answer["sequence"]))

    def close(self) -> None:
        """Close this thread's connection."""
        self._transport.close()

    @contextlib.contextmanager
    def _understanding(self, what: str) -> Iterator[None]:
        """What comes from outside may have any shape; one that is not the dialect's is as good as no answer."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise BackendUnavailable(f"cannot understand {what} that {self.address} sent: {error!r}") from error

    def _details(self, ids: Sequence[str], now: datetime) -> list[Mapping[str, Any]]:
        due = (now - timedelta(seconds=_TASK_RUN_AGE_S)).isoformat()
        where = (
            f'{{id: {{_in: {json.dumps(ids)}}}, _or: [{{state: {{_eq: "Scheduled"}}}}, '
            f'{{state: {{_eq: "Running"}}, task_runs: {{state_start_time: {{_lte: "{due}"}}}}}}]}}'
        )
        if self._newer_fields:
            fields = f"{_RUN_FIELDS} {_NEWER_RUN_FIELDS} {_NEWER_FLOW} {_TASK_RUNS.format(due=due)}"
            try:
                return self._rows(where, fields)
            except BackendRefused:  # a server of the 0.13 days does not know the newer fields
                self._newer_fields = False
        return self._rows(where, f"{_RUN_FIELDS} {_FLOW} {_TASK_RUNS.format(due=due)}")

    def _rows(self, where: str, fields: str) -> list[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]] = self._transport.execute(f"query {{ flow_run(where: {where}) {{ {fields} }} }}")[
            "flow_run"
        ]
        return rows

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
    flow = row["flow"]
    return FlowRun(
        id=row["id"],
        name=row.get("name") or row["id"],
        version=row["version"],
        state=RunState(row["state"]),
        serialized_state=row["serialized_state"] or {},
        parameters=row.get("parameters") or {},
        run_config=row.get("run_config"),
        scheduled_start_time=_time(row.get("scheduled_start_time")),
        flow=Flow(
            id=flow["id"],
            name=flow["name"],
            version=flow.get("version"),
            storage=flow.get("storage") or {},
            run_config=flow.get("run_config"),
            environment=flow.get("environment"),
        ),
        task_runs=tuple(_task_runs(row.get("task_runs") or ())),
    )


def _task_runs(rows: Iterable[Mapping[str, Any]]) -> Iterable[TaskRun]:
    for row in rows:
        yield TaskRun(
            id=row["id"],
            task_id=row["task_id"],
            version=row["version"],
            serialized_state=row["serialized_state"] or {},
        )


def _stored_state(row: Mapping[str, Any]) -> StoredState:
    state = row["serialized_state"] or {}
    context = state.get("context")
    ours = context.get("flowherd") if isinstance(context, Mapping) else None
    return StoredState(
        flow_run_id=row["id"],
        version=row["version"],
        state=RunState(row["state"]),
        message=state.get("message"),
        claim=ours.get("claim") if isinstance(ours, Mapping) else None,
    )


def _time(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    # datetime.fromisoformat reads "Z" only from Python 3.11 on.
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
