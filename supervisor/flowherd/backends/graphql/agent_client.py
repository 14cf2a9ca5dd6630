"""`Agent.client`: the API as subclasses of agents call it, over the agent's own connection.

Methods and their arguments are those that Prefect's Client of 0.13 to 1.4 has and that its agents call; anything else
can be sent by `graphql`. A refusal of a subclass's request is an error of that request and does not end the agent.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urljoin

from flowherd.attribute_dict import AttributeDict
from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.client_errors import NOT_FOUND, also_of_prefect
from flowherd.backends.graphql.client_states import queued_state, read_state, serialized_state
from flowherd.backends.graphql.query_text import query_text
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.protocol import Backend
from flowherd.errors import BackendRefused, BackendUnavailable, ConfigurationError
from flowherd.times import read_time

#: Pauses before a request without an answer is sent again, seconds; those of Prefect's client after an API_ERROR.
_RETRY_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)

Answer = TypeVar("Answer")


class Contact(Protocol):
    """The agent's connection to its backend."""

    @property
    def backend(self) -> Backend:
        """The backend."""
        ...

    def make(self, request: Callable[[Backend], Answer], *, urgent: bool) -> Answer:
        """Make one request."""
        ...

    def rest(self, pause_s: float) -> bool:
        """Wait; return False if the agent stops meanwhile."""
        ...


class TaskRunInfo(NamedTuple):
    """A task run as `get_flow_run_info` returns it."""

    id: str
    task_id: str
    task_slug: str
    version: int
    state: Any


class FlowRunInfo(NamedTuple):
    """A flow run as `get_flow_run_info` returns it. `state` is an object of Prefect's, if the program uses Prefect."""

    id: str
    name: str
    flow_id: str
    parameters: dict[str, Any]
    context: dict[str, Any]
    version: int
    scheduled_start_time: datetime | None
    state: Any
    task_runs: list[TaskRunInfo]
    project: AttributeDict | None


class AgentClient:
    """The API of the agent's server, for its subclass. Every request raises BackendUnavailable or BackendRefused.

    `token` is what `get_auth_token` returns while no server is known.
    """

    def __init__(self, contact: Contact, token: str, logger: logging.Logger) -> None:
        self._contact = contact
        self._token = token
        self._tenant_id: str | None = None
        self.logger = logger

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"an agent's client has no {name!r}; its method graphql sends any query or mutation")

    # -- the connection

    @property
    def api_server(self) -> str:
        """URL that queries are sent to. Raises ConfigurationError while no server is known."""
        return self._transport().endpoint

    def get_auth_token(self) -> str:
        """Return the token that requests carry; empty if there is none."""
        try:
            return self._transport().token
        except ConfigurationError:
            return self._token

    #: The names of the token in Prefect 0.x and 1.x.
    _api_token = api_key = property(get_auth_token)

    @property
    def tenant_id(self) -> str | None:
        """Id of the first tenant, which the agent's runs belong to; None at a server without tenants."""
        if self._tenant_id is None:
            tenants = self.graphql("query { tenant { id } }").data.tenant
            self._tenant_id = tenants[0].id if tenants else None
        return self._tenant_id

    _active_tenant_id = tenant_id

    def attach_headers(self, headers: Mapping[str, str]) -> None:
        """Send these headers with every later request of the agent, its own included."""
        self._transport().attach_headers(headers)

    @property
    def _attached_headers(self) -> dict[str, str]:
        return self._transport().attached_headers

    # -- any request

    def graphql(
        self,
        query: Any,
        raise_on_error: bool = True,
        headers: Mapping[str, str] | None = None,
        variables: Mapping[str, Any] | None = None,
        token: str | None = None,
        retry_on_api_error: bool = True,
        api_key: str | None = None,
    ) -> AttributeDict:
        """Execute one query or mutation and return the whole answer, in which `data` is, as in `answer.data.hello`.

        `query` is text, or nested dicts and sets (query_text.py). `headers`, and `token` or `api_key`, are for this
        request only. With `raise_on_error` false an answer may have `errors`. A request without an answer is sent
        again for six seconds, unless `retry_on_api_error` is false; it may have been carried out nevertheless.
        """
        text, own_headers = query_text(query), _headers(headers, token or api_key)

        def ask(transport: GraphQLTransport) -> dict[str, Any]:
            if raise_on_error:
                return {"data": transport.execute(text, variables, own_headers)}
            return transport.answer(text, variables, own_headers)

        return AttributeDict(self._carry_out(ask, retry_on_api_error))

    def get(
        self,
        path: str,
        server: str | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        token: str | None = None,
        retry_on_api_error: bool = True,
        api_key: str | None = None,
    ) -> Any:
        """Return the JSON answer to a GET of `path` beside the API's own path, or below the URL `server`.

        Another server gets no token and no attached header. The other arguments are those of `graphql`.
        """
        return self._request(
            "GET", path, server, _headers(headers, token or api_key), retry_on_api_error, params=params
        )

    def post(
        self,
        path: str,
        server: str | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        token: str | None = None,
        retry_on_api_error: bool = True,
        api_key: str | None = None,
    ) -> Any:
        """Return the JSON answer to a POST with `params` as its JSON body; otherwise as `get`."""
        own_headers = _headers(headers, token or api_key)
        return self._request("POST", path, server, own_headers, retry_on_api_error, json=params or {})

    # -- flow runs and task runs

    def get_flow_run_info(self, flow_run_id: str) -> FlowRunInfo:
        """Return a flow run with its state and its task runs, those of mapped tasks apart."""
        row = self._row(
            "flow_run_by_pk",
            flow_run_id,
            "id name flow_id parameters context version scheduled_start_time serialized_state "
            "flow { project { id name } } "
            "task_runs(where: {map_index: {_eq: -1}}) { id version serialized_state task { id slug } }",
        )
        task_runs = [
            TaskRunInfo(one.id, one.task.id, one.task.slug, one.version, read_state(one.serialized_state))
            for one in row.task_runs
        ]
        return FlowRunInfo(
            id=row.id,
            name=row.name,
            flow_id=row.flow_id,
            parameters=(row.parameters or AttributeDict()).to_dict(),
            context=(row.context or AttributeDict()).to_dict(),
            version=row.version,
            scheduled_start_time=row.scheduled_start_time and read_time(row.scheduled_start_time, naive="utc"),
            state=read_state(row.serialized_state),
            task_runs=task_runs,
            project=row.flow and row.flow.project,
        )

    def get_flow_run_state(self, flow_run_id: str) -> Any:
        """Return the state of a flow run: an object of Prefect's, if the program uses Prefect."""
        return read_state(self._row("flow_run_by_pk", flow_run_id, "serialized_state").serialized_state)

    def get_task_run_state(self, task_run_id: str) -> Any:
        """Return the state of a task run."""
        return read_state(self._row("task_run_by_pk", task_run_id, "serialized_state").serialized_state)

    def set_flow_run_state(self, flow_run_id: str, state: Any, version: int | None = None) -> Any:
        """Give a flow run a state: an object of Prefect's, a serialized one, or the name of its type.

        Returns the state that the run is in then: the given one, or Queued. With `version` the run must be in its state
        of that number; raises ClaimLost if it is not.
        """
        return self._set_state("flow_run", flow_run_id, state, version)

    def set_task_run_state(
        self, task_run_id: str, state: Any, version: int | None = None, cache_for: object = None
    ) -> Any:
        """Give a task run a state, as `set_flow_run_state` does. `cache_for` has no effect, as in Prefect."""
        return self._set_state("task_run", task_run_id, state, version)

    def update_flow_run_heartbeat(self, flow_run_id: str) -> None:
        """Report that a flow run is alive."""
        self._mutate("update_flow_run_heartbeat", {"flow_run_id": flow_run_id}, "success")

    def cancel_flow_run(self, flow_run_id: str) -> bool:
        """Cancel a flow run; return whether the server has noted it."""
        return bool(self._mutate("cancel_flow_run", {"flow_run_id": flow_run_id}, "state").state)

    def write_run_logs(self, logs: Sequence[Mapping[str, Any]]) -> None:
        """Append lines to the logs of flow runs: dicts of flow_run_id, name, level and message.

        Raises ValueError if the server does not store them.
        """
        if not self._mutate("write_run_logs", {"logs": logs}, "success").success:
            raise ValueError(f"{self.api_server} did not store {len(logs)} log lines")

    # -- agents

    def register_agent(
        self,
        agent_type: str,
        name: str | None = None,
        labels: Iterable[str] | None = None,
        agent_config_id: str | None = None,
    ) -> str:
        """Register an agent and return its id. The agent itself is registered already."""
        agent = {"type": agent_type, "name": name, "labels": list(labels or ()), "tenant_id": self.tenant_id}
        if agent_config_id is not None:
            agent["agent_config_id"] = agent_config_id
        return str(self._mutate("register_agent", agent, "id").id)

    def get_agent_config(self, agent_config_id: str) -> AttributeDict:
        """Return the settings of an agent configuration at the server. Raises BackendRefused if there is none."""
        where = {"id": {"_eq": agent_config_id}}
        query = "query($where: agent_config_bool_exp) { agent_config(where: $where) { settings } }"
        found = self.graphql(query, variables={"where": where}).data.agent_config
        if not found:
            raise self._not_found("agent configuration", agent_config_id)
        settings: AttributeDict = found[0].settings
        return settings

    # -- inside

    def _transport(self) -> GraphQLTransport:
        return _of_graphql(self._contact.backend).transport

    def _request(
        self, method: str, path: str, server: str | None, headers: Mapping[str, str], retry: bool, **content: Any
    ) -> Any:
        url = urljoin(server or self.api_server, path.lstrip("/")).rstrip("/")
        return self._carry_out(lambda transport: transport.request(method, url, headers, **content), retry)

    def _row(self, table: str, row_id: str, fields: str) -> AttributeDict:
        row = self.graphql(f"query {{ {table}(id: {json.dumps(row_id)}) {{ {fields} }} }}").data[table]
        if row is None:
            raise self._not_found(table.removesuffix("_by_pk").replace("_", " "), row_id)
        found: AttributeDict = row
        return found

    def _not_found(self, kind: str, row_id: str) -> BackendRefused:
        return also_of_prefect(BackendRefused(f"{self.api_server} has no {kind} {row_id}", NOT_FOUND))

    def _mutate(self, name: str, given: Mapping[str, Any], selection: str) -> AttributeDict:
        query = f"mutation($input: {name}_input!) {{ {name}(input: $input) {{ {selection} }} }}"
        result: AttributeDict = self.graphql(query, variables={"input": given}).data[name]
        return result

    def _set_state(self, kind: str, run_id: str, state: Any, version: int | None) -> Any:
        change = {f"{kind}_id": run_id, "version": version, "state": serialized_state(state)}
        result = self._mutate(f"set_{kind}_states", {"states": [change]}, "states { id status message }")
        answer = result.states[0]
        return queued_state(answer.message) if answer.status == "QUEUED" else state

    def _carry_out(self, request: Callable[[GraphQLTransport], Answer], retry: bool) -> Answer:
        for pause_s in _RETRY_PAUSES_S if retry else ():
            try:
                return self._once(request)
            except BackendUnavailable as error:
                if (error.retry_after_s or 0) > pause_s or not self._contact.rest(pause_s):
                    raise
        return self._once(request)

    def _once(self, request: Callable[[GraphQLTransport], Answer]) -> Answer:
        def attempt(backend: Backend) -> Answer | BackendRefused:
            try:
                return request(_of_graphql(backend).transport)
            except BackendRefused as error:
                return error  # an answer, as far as the connection is concerned

        answer = self._contact.make(attempt, urgent=False)
        if isinstance(answer, BackendRefused):
            raise also_of_prefect(answer) from answer
        return answer


def _of_graphql(backend: Backend) -> GraphQLBackend:
    if not isinstance(backend, GraphQLBackend):
        raise ConfigurationError(
            f"the backend {backend.address} is not a server of the GraphQL API that a client needs"
        )
    return backend


def _headers(headers: Mapping[str, str] | None, token: str | None) -> dict[str, str]:
    return {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
