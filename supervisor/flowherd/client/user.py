"""What a person does on a server of the Prefect GraphQL dialect: register flows, start runs, look, cancel.

Written for any server of the dialect; what only flowherd's own server has is asked of it alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flowherd.backends.graphql.literals import Word, arguments
from flowherd.backends.graphql.rows import parsed_time
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.client.history import RunHistory
from flowherd.client.logs import RunLog
from flowherd.errors import BackendRefused, BackendUnavailable
from flowherd.states import FINISHED, SUCCESSFUL, RunState

#: An agent that asked for runs within this time is alive; the dialect's own clients use the same.
AGENT_ALIVE_S = 60.0
#: The same where the server knows who is connected: between two connections an agent does what it was woken for.
AGENT_BUSY_S = 5.0
#: How many of the newest runs are looked through for an id's beginning.
_PREFIX_SEARCH = 1000
_DUPLICATE_TEXT = "Uniqueness violation"

_RUN_FIELDS = (
    "id name state state_message labels parameters agent_id created scheduled_start_time start_time end_time "
    "serialized_state flow { name }"
)


@dataclass(frozen=True, kw_only=True)
class RegisteredFlow:
    """A flow as the server holds it."""

    id: str
    name: str
    version: int
    project: str
    created: datetime | None = None
    #: The defaults of its parameters, those that have one.
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A flow run as the server holds it."""

    id: str
    name: str
    flow: str
    state: str
    message: str | None
    labels: tuple[str, ...]
    parameters: Mapping[str, Any]
    #: The id of the agent that took it last.
    agent_id: str | None
    #: Of the flow process, where a flowherd agent told it.
    pid: int | None
    #: Why it ended, in the words of flowherd_runner.contract.reasons; where a flowherd agent told it.
    reason: str | None
    created: datetime | None
    scheduled_start_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None

    @property
    def finished(self) -> bool:
        """Whether its state is a final one."""
        return self.state in FINISHED

    @property
    def successful(self) -> bool:
        """Whether it ended well."""
        return self.state in SUCCESSFUL


@dataclass(frozen=True, kw_only=True)
class AgentView:
    """An agent as the server knows it."""

    id: str
    name: str
    labels: tuple[str, ...]
    last_queried: datetime | None
    #: Whether it holds a connection to the server; None where the server cannot tell.
    connected: bool | None = None

    def alive(self, now: datetime) -> bool:
        """Whether it is there: connected, or heard of lately."""
        if self.connected:
            return True
        limit_s = AGENT_ALIVE_S if self.connected is None else AGENT_BUSY_S
        return self.last_queried is not None and now - self.last_queried < timedelta(seconds=limit_s)


class UserClient:
    """The operations of a person. Every method raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport

    @property
    def address(self) -> str:
        """Where the server is."""
        return self._transport.origin

    def hello(self) -> bool:
        """Ask whether anybody is there; tells whether it is a server of flowherd's own."""
        self._transport.execute("query { hello }")
        return self.is_flowherd

    @property
    def is_flowherd(self) -> bool:
        """Whether the last answer came from a server of flowherd's own, which has the extensions."""
        return self._transport.server_version is not None

    def ensure_project(self, name: str) -> str:
        """The id of the project of this name, created if missing."""
        found = self._project_id(name)
        if found:
            return found
        tenants = self._transport.execute("query { tenant { id } }")["tenant"]
        if not tenants:
            raise BackendRefused(f"{self.address} has no tenant; create one first")
        try:
            return self._mutate("create_project", {"tenant_id": tenants[0]["id"], "name": name, "description": None})
        except BackendRefused as error:
            found = self._project_id(name) if _DUPLICATE_TEXT in str(error) else None
            if found is None:
                raise
            return found

    def create_flow(self, project_id: str, document: Mapping[str, Any]) -> RegisteredFlow:
        """Register a flow document as the newest version of the flow of its name."""
        flow_id = self._mutate(
            "create_flow",
            {
                "project_id": project_id,
                "serialized_flow": dict(document),
                "set_schedule_active": document.get("schedule") is not None,
                "version_group_id": None,
            },
        )
        found = self._flows(where={"id": {"_eq": flow_id}})
        if not found:
            raise BackendUnavailable(f"{self.address} registered flow {flow_id} and does not show it")
        return found[0]

    def flows(self, name: str | None = None, project: str | None = None) -> list[RegisteredFlow]:
        """The flows that are not archived, the newest version first."""
        where: dict[str, Any] = {"archived": {"_eq": False}}
        if name is not None:
            where["name"] = {"_eq": name}
        if project is not None:
            where["project"] = {"name": {"_eq": project}}
        return self._flows(where=where, order_by={"created": Word("desc")})

    def create_run(
        self,
        flow_id: str,
        *,
        parameters: Mapping[str, Any],
        at: datetime | None = None,
        labels: Sequence[str] | None = None,
        name: str | None = None,
    ) -> str:
        """Create a flow run and return its id; `at` None is now, `labels` None are the flow's."""
        given = {
            "flow_id": flow_id,
            "parameters": dict(parameters),
            "scheduled_start_time": at.isoformat() if at else None,
            "labels": list(labels) if labels is not None else None,
            "flow_run_name": name,
        }
        return self._mutate("create_flow_run", {key: value for key, value in given.items() if value is not None})

    def runs(self, *, states: Collection[str] | None = None, limit: int) -> list[RunView]:
        """The newest flow runs, newest first; only those in `states` if given."""
        where = {"state": {"_in": sorted(states)}} if states is not None else None
        return self._runs(where=where, limit=limit)

    def run(self, run_id: str) -> RunView | None:
        """One flow run by its id."""
        found = self._runs(where={"id": {"_eq": run_id}}, limit=1)
        return found[0] if found else None

    def runs_by_id(self, run_ids: Collection[str]) -> list[RunView]:
        """The flow runs of these ids, as far as they exist."""
        return self._runs(where={"id": {"_in": sorted(run_ids)}}, limit=len(run_ids)) if run_ids else []

    def find_runs(self, text: str) -> list[RunView]:
        """The flow runs that `text` may mean: by name, or by the beginning of the id among the newest thousand."""
        named = self._runs(where={"name": {"_eq": text}}, limit=10)
        if named:
            return named
        # By hand: the dialect's ids are of a type that has no comparison by beginning.
        newest = self._transport.execute(
            f"query {{ flow_run{arguments(order_by={'created': Word('desc')}, limit=_PREFIX_SEARCH)} {{ id }} }}"
        )["flow_run"]
        return self.runs_by_id([row["id"] for row in newest if row["id"].startswith(text.lower())][:10])

    def cancel(self, run_id: str) -> str:
        """Ask for a run's end; returns the state that it is in then."""
        query = "mutation($input: cancel_flow_run_input!) { cancel_flow_run(input: $input) { state } }"
        answer = self._transport.execute(query, {"input": {"flow_run_id": run_id}})
        return str(answer["cancel_flow_run"]["state"])

    def log(self, run_id: str) -> RunLog:
        """The log of a run, to be read onwards."""
        return RunLog(self._transport, run_id, numbered=self.hello())

    def history(self, run_id: str) -> RunHistory:
        """The states of a run and what flowherd said about it."""
        return RunHistory(self._transport, run_id)

    def agents(self) -> list[AgentView]:
        """The agents that the server knows."""
        fields = "id name labels last_queried" + (" connected" if self.hello() else "")
        rows = self._transport.execute(f"query {{ agent {{ {fields} }} }}")["agent"]
        return [
            AgentView(
                id=row["id"],
                name=row["name"] or "",
                labels=tuple(row["labels"] or ()),
                last_queried=parsed_time(row["last_queried"]),
                connected=row.get("connected"),
            )
            for row in rows
        ]

    def poke(self) -> int:
        """Wake all agents that are connected and return their number; only flowherd's own server can."""
        return int(self._transport.post("/poke", timeout_s=10.0)["agents"])

    def close(self) -> None:
        """Give back the socket."""
        self._transport.close()

    def _project_id(self, name: str) -> str | None:
        rows = self._transport.execute(f"query {{ project{arguments(where={'name': {'_eq': name}})} {{ id }} }}")
        return rows["project"][0]["id"] if rows["project"] else None

    def _flows(self, **query: Any) -> list[RegisteredFlow]:
        fields = "id name version created parameters project { name }"
        rows = self._transport.execute(f"query {{ flow{arguments(**query)} {{ {fields} }} }}")["flow"]
        return [
            RegisteredFlow(
                id=row["id"],
                name=row["name"],
                version=row["version"],
                project=(row["project"] or {}).get("name", ""),
                created=parsed_time(row["created"]),
                defaults={p["name"]: p["default"] for p in row["parameters"] or () if p.get("default") is not None},
            )
            for row in rows
        ]

    def _runs(self, *, where: Mapping[str, Any] | None, limit: int) -> list[RunView]:
        given = arguments(where=where, order_by={"created": Word("desc")}, limit=limit)
        rows = self._transport.execute(f"query {{ flow_run{given} {{ {_RUN_FIELDS} }} }}")["flow_run"]
        return [_run(row) for row in rows]

    def _mutate(self, operation: str, values: Mapping[str, Any]) -> str:
        query = f"mutation($input: {operation}_input!) {{ {operation}(input: $input) {{ id }} }}"
        answer = self._transport.execute(query, {"input": dict(values)})
        return str(answer[operation]["id"])


def missing_labels(wanted: Collection[str], agents: Collection[AgentView]) -> list[str] | None:
    """The labels that the closest of `agents` lacks for a run that wants `wanted`; None when one takes it.

    The dialect's rule: an agent needs all labels of a run, and a run without labels goes only to an agent without.
    An empty list means the latter: every agent has labels, the run has none.
    """
    lacking = [sorted(set(wanted) - set(agent.labels)) for agent in agents if wanted or not agent.labels]
    if any(not labels for labels in lacking):
        return None
    return min(lacking, key=len, default=sorted(wanted))


def _run(row: Mapping[str, Any]) -> RunView:
    serialized = row["serialized_state"] or {}
    ours = (serialized.get("context") or {}).get("flowherd") or {}
    return RunView(
        id=row["id"],
        name=row["name"] or "",
        flow=(row["flow"] or {}).get("name", ""),
        state=row["state"] or RunState.PENDING.value,
        message=row["state_message"],
        labels=tuple(row["labels"] or ()),
        parameters=row["parameters"] or {},
        agent_id=row["agent_id"],
        pid=ours.get("pid"),
        reason=ours.get("reason"),
        created=parsed_time(row["created"]),
        scheduled_start_time=parsed_time(row["scheduled_start_time"]),
        start_time=parsed_time(row["start_time"]),
        end_time=parsed_time(row["end_time"]),
    )
