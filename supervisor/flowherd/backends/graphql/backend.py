"""The agent's backend over the GraphQL API of Prefect 0.x/1.x, which flowherd's embedded server has too."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from flowherd.backends import json_values
from flowherd.backends.decoding import decoding
from flowherd.backends.graphql.due_runs import DueRuns
from flowherd.backends.graphql.inputs import change_input, claim_input, log_input, state_input
from flowherd.backends.graphql.questions import Question, Questions
from flowherd.backends.graphql.run_rows import stored_state, stored_states
from flowherd.backends.graphql.transport import (
    ACCOUNTS,
    AGENT_REPORTS,
    LIVE_REPORTS,
    RUN_TOKENS,
    SHARING,
    TEXT_SO_FAR,
    GraphQLTransport,
)
from flowherd.backends.late_reports import dated_message
from flowherd.backends.protocol import ServerCapabilities, UnfinishedRuns
from flowherd.config.urls import without_user
from flowherd.errors import BackendRefused, ClaimLost, NotAuthorized
from flowherd.states import CLAIMABLE, FINISHED, RunState
from flowherd.story.live_news import LiveNews, read_live_news
from flowherd.values import (
    AgentIdentity,
    Claim,
    EngineAccess,
    FlowRun,
    LogLine,
    RunAtBackend,
    StateReport,
    StoredState,
    TaskRun,
    Wake,
    deciding_task_run,
    waiting_task_runs,
)

#: Time that a wake request may take beyond its own time-out before the connection counts as broken, seconds.
_WAKE_MARGIN_S = 10.0
_STORED = Question("$ids: [uuid!]!", "flow_run(where: {id: {_in: $ids}}) { id version state serialized_state }")
_STORED_OF_TASKS = Question(
    "$ids: [uuid!]!", "task_run(where: {id: {_in: $ids}}) { id flow_run_id version state serialized_state }"
)
_UNFINISHED = Question(
    "$ids: [uuid!]!",
    f"flow_run(where: {{id: {{_in: $ids}}, state: {{_nin: {json.dumps(sorted(FINISHED))}}}}}) "
    "{ id version state serialized_state } flow_run_aggregate(where: {id: {_in: $ids}}) { aggregate { count } }",
)
_AT_BACKEND = Question(
    "$id: uuid!",
    "flow_run(where: {id: {_eq: $id}}) "
    f"{{ state version task_runs(where: {{state: {{_in: {json.dumps(sorted(CLAIMABLE))}}}}}) {{ state }} }}",
)


class GraphQLBackend:
    """`Backend` over the GraphQL API of Prefect 0.x/1.x."""

    engine = "prefect1"

    def __init__(self, transport: GraphQLTransport) -> None:
        self.address = without_user(transport.endpoint)
        self._transport = transport
        self._questions = Questions(transport)
        self._due_runs = DueRuns(transport, self._questions)
        self._tenant_id: str | None = None
        self._agent_id: str | None = None
        #: Whether the server is the embedded one: it recognises log lines by their ids, and takes a state's time from
        #: its context. None before `connect`.
        self._sends_line_ids: bool | None = None
        #: What tells this agent from others when it asks for offers: agents that are registered alike have one id.
        self._holder = uuid.uuid4().hex
        #: Whether the server shares due runs out, and for how many runs there was room when it was last asked.
        self._shares = False
        self._room: int | None = None
        #: What the agent reports of itself; None once it is sent.
        self._report: Mapping[str, Any] | None = None

    def connect(self) -> ServerCapabilities:
        """Make the first contact; find out the tenant and what the server can do."""
        self._transport.execute("query { hello }")
        with decoding("the tenants", self.address):
            tenants = json_values.mappings(self._transport.execute("query { tenant { id } }").get("tenant"))
            self._tenant_id = json_values.text(tenants[0]["id"]) if tenants else None
        version = self._transport.server_version
        self._sends_line_ids = version is not None
        self._shares = version is not None and self._transport.server_extensions >= SHARING
        if version is None:
            return ServerCapabilities(name="Prefect Server", asks_by_room=True)
        return ServerCapabilities(
            name=f"flowherd server {version}",
            arbitrates=True,
            wakes=True,
            keeps_text_so_far=TEXT_SO_FAR in self._transport.server_extensions,
            shares=self._shares,
            asks_by_room=True,
            delivers_together=True,
            keeps_accounts=self._keeps_accounts,
            keeps_agent_reports=self._shares and AGENT_REPORTS in self._transport.server_extensions,
        )

    def check_token(self) -> None:
        """Raise NotAuthorized unless the server knows the token as one of scope RUNNER."""
        with decoding("the token's scope", self.address):
            answer = self._transport.execute("query { auth_info { api_token_scope } }")
            info = json_values.mapping(answer.get("auth_info") or {})
        if info.get("api_token_scope") != "RUNNER":
            raise NotAuthorized(
                f"{self.address}: the agent's token does not have the scope RUNNER; create one that has it"
            )

    def register(self, identity: AgentIdentity) -> str:
        """Register the agent; every later request carries its id."""
        given: dict[str, Any] = {
            "type": identity.type,
            "name": identity.name,
            "labels": list(identity.labels),
            "tenant_id": self._tenant_id,
        }
        if identity.config_id is not None:
            given["agent_config_id"] = identity.config_id
        answer = self._transport.mutate("register_agent", given, "id")
        with decoding("the agent's id", self.address):
            self._agent_id = json_values.header_value(answer["id"])
        self._transport.attach_headers({"X-PREFECT-AGENT-ID": self._agent_id})
        return self._agent_id

    def ready_runs(self, labels: Sequence[str], exclude: Collection[str]) -> list[FlowRun]:
        """Return the runs that the server's queue lists for these labels."""
        return self._due_runs.find(labels, exclude, None, self._tenant_id)

    def offered_runs(self, labels: Sequence[str], exclude: Collection[str], room: int | None) -> list[FlowRun]:
        """Return the runs that the server offers to this agent for some seconds; of its queue if it shares none out."""
        if not self._shares:
            return self._due_runs.find(labels, exclude, room, self._tenant_id)
        self._room = room
        report = self._report if AGENT_REPORTS in self._transport.server_extensions else None
        found = self._due_runs.offered(self._holder, labels, exclude, room, self._tenant_id, report)
        self._reported(report)
        return found

    def report_agent(self, report: Mapping[str, Any]) -> None:
        """Send this with the next request for offered runs."""
        self._report = report

    def send_report(self, report: Mapping[str, Any]) -> LiveNews:
        """Send this report now."""
        if LIVE_REPORTS not in self._transport.server_extensions:
            return LiveNews()
        return read_live_news(self._transport.mutate("report_agent", {"live_report": report}, "news").get("news"))

    def _reported(self, report: Mapping[str, Any] | None) -> None:
        """Note that this report was sent; a newer one still has to be."""
        if self._report is report:
            self._report = None

    def claim(self, flow_run: FlowRun, token: str) -> None:
        """Set Submitted, which keeps the state before inside it; for the waiting task runs too."""
        submitted = StateReport(
            flow_run_id=flow_run.id,
            state=RunState.SUBMITTED,
            message="Submitted for execution",
            at=datetime.now(timezone.utc),
            claim=token,
        )
        deciding = deciding_task_run(flow_run)
        if deciding is None:
            state = state_input(submitted, wrapped=flow_run.serialized_state)
            self._set_flow_run_state(flow_run.id, flow_run.version, state)
        else:
            self._submit_task_run(deciding, submitted)
        for task_run in waiting_task_runs(flow_run):
            if task_run is not deciding:
                # If another task run no longer waits, its engine goes on with it; the claim of the flow run is won.
                with contextlib.suppress(ClaimLost):
                    self._submit_task_run(task_run, submitted)

    def claim_many(self, claims: Sequence[Claim]) -> dict[str, str | None]:
        """Claim all the runs in one request, which is one transaction of the server."""
        given = {"claims": [claim_input(claim) for claim in claims]}
        answer = self._transport.mutate("claim_runs", given, "claims { flow_run_id won message }")
        with decoding("the claims", self.address):
            return claim_outcomes(answer)

    def report(self, report: StateReport) -> None:
        """Set the state. At a server that dates states itself, the message of a late report says when it happened."""
        self.report_together([report])

    @property
    def server_instance(self) -> str:
        """Which life of the server answered last; empty if servers of its kind do not say so."""
        return self._transport.server_instance

    @property
    def server_restored(self) -> bool:
        """Whether that server was started on an older copy of its database."""
        return self._transport.server_restored

    def report_together(self, reports: Sequence[StateReport]) -> None:
        """Set all these states in one request; dated as `report` says."""
        dated = [one if self._sends_line_ids else replace(one, message=dated_message(one)) for one in reports]
        states = [change_input(one, with_account=self._keeps_accounts) for one in dated]
        self._transport.mutate("set_flow_run_states", {"states": states}, "states { id status message }")

    @property
    def _keeps_accounts(self) -> bool:
        return ACCOUNTS in self._transport.server_extensions

    def deliver(self, lines: Sequence[LogLine], reports: Sequence[StateReport]) -> None:
        """Write the lines, then set the states; flowherd's own server stores a line that is sent again once."""
        if lines:
            self.write_logs(lines)
        if reports:
            self.report_together(reports)

    def unfinished_runs(self, flow_run_ids: Collection[str]) -> UnfinishedRuns:
        """Return which of these runs have not ended there, and how many are known, in one query."""
        answer = self._questions.ask(_UNFINISHED, {"ids": sorted(flow_run_ids)})
        with decoding("the states", self.address):
            count = json_values.mapping(json_values.mapping(answer["flow_run_aggregate"])["aggregate"])["count"]
            return UnfinishedRuns(known=json_values.integer(count), states=stored_states(answer, flow_run_ids))

    def write_logs(self, lines: Sequence[LogLine]) -> None:
        """Write all the lines in one request."""
        if self._sends_line_ids is None:
            self.connect()
        # As found by `connect`, not by the latest answer, which may be a proxy's: resent lines without ids are doubled.
        logs = [log_input(line, with_id=bool(self._sends_line_ids)) for line in lines]
        answer = self._transport.mutate("write_run_logs", {"logs": logs}, "success")
        if not answer.get("success"):
            raise BackendRefused(f"{self.address} did not store {len(logs)} log lines and gave no reason")

    def heartbeat(self, flow_run_ids: Collection[str]) -> None:
        """Send the heartbeats of all the runs in one request."""
        if not flow_run_ids:
            return
        inputs = {f"h{n}": {"flow_run_id": run_id} for n, run_id in enumerate(flow_run_ids)}
        variables = ", ".join(f"${name}: update_flow_run_heartbeat_input!" for name in inputs)
        parts = " ".join(f"{name}: update_flow_run_heartbeat(input: ${name}) {{ success }}" for name in inputs)
        self._transport.execute(f"mutation({variables}) {{ {parts} }}", inputs)

    def stored_states(self, flow_run_ids: Collection[str]) -> dict[str, StoredState]:
        """Return the stored states of these runs, in one query."""
        if not flow_run_ids:
            return {}
        rows = self._questions.ask(_STORED, {"ids": sorted(flow_run_ids)})
        with decoding("the states", self.address):
            return stored_states(rows, flow_run_ids)

    def confirm_claim(self, flow_run_id: str, token: str) -> None:
        """Do nothing: a claim names the version of the run that it is for, so it cannot be stored too late."""

    def stored_task_states(self, task_run_ids: Collection[str]) -> dict[str, StoredState]:
        """Return the stored states of these task runs, in one query."""
        if not task_run_ids:
            return {}
        rows = self._questions.ask(_STORED_OF_TASKS, {"ids": sorted(task_run_ids)})
        with decoding("the states of task runs", self.address):
            return {
                json_values.text(row["id"]): stored_state({**row, "id": row["flow_run_id"]})
                for row in json_values.mappings(rows["task_run"])
            }

    def run_at_backend(self, flow_run_id: str) -> RunAtBackend | None:
        """Return the states of the run and of its waiting task runs, in one query."""
        answer = self._questions.ask(_AT_BACKEND, {"id": flow_run_id})
        with decoding("the run's state", self.address):
            for row in json_values.mappings(answer["flow_run"]):
                tasks = json_values.mappings(row.get("task_runs"))
                return RunAtBackend(
                    state=RunState(row["state"]),
                    waiting=frozenset(RunState(task["state"]) for task in tasks),
                    version=json_values.integer_or_none(row.get("version")),
                )
        return None

    def engine_access(self) -> EngineAccess | None:
        """Return the agent's own address and token."""
        transport = self._transport
        return EngineAccess(
            api=transport.api,
            endpoint=transport.endpoint,
            token=transport.token,
            tenant_id=self._tenant_id,
            authorities=transport.route.authorities,
            never_by_proxy=transport.route.is_embedded,
            takes_run_tokens=bool(transport.token) and RUN_TOKENS in transport.server_extensions,
        )

    def engine_variables(self) -> Mapping[str, str]:
        """Return nothing: what Prefect's engine has read from its environment at import is renewed for each run."""
        return {}

    def wait_for_wake(self, seen: int, timeout_s: float) -> Wake:
        """Send a request that the server answers when there is news for this agent."""
        asked: dict[str, Any] = {"seen": seen, "timeout": timeout_s}
        if self._shares:
            asked["holder"] = self._holder
            if self._room is not None:
                asked["room"] = self._room
        answer = self._transport.get(f"/agents/{self._agent_id}/wake", asked, timeout_s + _WAKE_MARGIN_S)
        with decoding("the wake", self.address):
            news = json_values.mapping(answer)
            return Wake(
                sequence=json_values.integer(news["sequence"]),
                ends=news.get("ends") is not False,
                live=read_live_news(news.get("live")),
            )

    @property
    def transport(self) -> GraphQLTransport:
        """The connection to the API, for the client of an agent's subclass."""
        return self._transport

    def close(self) -> None:
        """Close this thread's connection."""
        self._transport.close()

    def _submit_task_run(self, task_run: TaskRun, submitted: StateReport) -> None:
        state = state_input(submitted, wrapped=task_run.serialized_state)
        change = {"task_run_id": task_run.id, "version": task_run.version, "state": state}
        self._transport.mutate("set_task_run_states", {"states": [change]}, "states { id status message }")

    def _set_flow_run_state(self, flow_run_id: str, version: int | None, state: Mapping[str, Any]) -> None:
        change = {"flow_run_id": flow_run_id, "version": version, "state": state}
        self._transport.mutate("set_flow_run_states", {"states": [change]}, "states { id status message }")


def claim_outcomes(answer: Mapping[str, Any]) -> dict[str, str | None]:
    """Return why each claim of an answer is lost, None if it is won. Raises one of DECODING_ERRORS."""
    rows = json_values.mappings(answer["claims"])
    return {json_values.text(row["flow_run_id"]): _reason_of_loss(row) for row in rows}


def _reason_of_loss(row: Mapping[str, Any]) -> str | None:
    return None if row["won"] is True else json_values.text_or_none(row.get("message")) or "no reason was given"
