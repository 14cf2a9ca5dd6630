"""The GraphQL backend for flowherd's own server: what the server's lane can carry goes there, and the rest over HTTP.

Without a lane, as at another server or from another host, it is the GraphQL backend.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from flowherd.backends import json_values
from flowherd.backends.decoding import decoding
from flowherd.backends.graphql.backend import GraphQLBackend, claim_outcomes
from flowherd.backends.graphql.inputs import change_input, claim_input, log_input
from flowherd.backends.graphql.lane_journals import send_journals
from flowherd.backends.graphql.lane_pool import LanePool
from flowherd.backends.graphql.lane_wakes import LaneWakes
from flowherd.backends.graphql.run_rows import stored_states
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.story.live_news import LiveNews, read_live_news
from flowherd.values import AgentIdentity, Claim, FlowRun, JournalPiece, LogLine, StateReport, StoredState, Wake


class LaneBackend(GraphQLBackend):
    """`Backend` for a server that may have a lane; `timeout_s` is for each answer of it, seconds."""

    def __init__(self, transport: GraphQLTransport, timeout_s: float) -> None:
        super().__init__(transport)
        self._labels: list[str] = []
        self._lane = LanePool(transport, timeout_s, self._introduction)
        self._wakes = LaneWakes(self._lane, self._who, lambda: self._room, self._due_runs.read)

    def register(self, identity: AgentIdentity) -> str:
        """Register the agent; every later request carries its id, and the lane is used from then on."""
        self._labels = list(identity.labels)
        return super().register(identity)

    def offered_runs(self, labels: Sequence[str], exclude: Collection[str], room: int | None) -> list[FlowRun]:
        """Return the runs that the server offers to this agent for some seconds."""
        self._room = room
        asked: dict[str, Any] = {"holder": self._holder, "labels": [*labels], "exclude": [*exclude], "room": room}
        report = self._report
        if report is not None:
            asked["report"] = report
        answer = self._lane.ask("offer", **asked) if self._shares else None
        if answer is None:
            return super().offered_runs(labels, exclude, room)
        self._reported(report)
        with decoding("the offered flow runs", self.address):
            rows = json_values.sequence(answer.head["flow_runs"])
        return [run for run in self._due_runs.read(rows) if run.id not in exclude]

    def send_report(self, report: Mapping[str, Any]) -> LiveNews:
        """Send this report now."""
        answer = self._lane.ask("report_agent", live_report=report)
        return super().send_report(report) if answer is None else read_live_news(answer.head.get("news"))

    def claim_many(self, claims: Sequence[Claim]) -> dict[str, str | None]:
        """Claim all the runs in one request, which is one transaction of the server."""
        answer = self._lane.ask("claim", claims=[claim_input(claim) for claim in claims])
        if answer is None:
            return super().claim_many(claims)
        with decoding("the claims", self.address):
            return claim_outcomes(answer.head)

    def report_together(self, reports: Sequence[StateReport]) -> None:
        """Set all these states in one request."""
        self.deliver((), reports)

    def write_logs(self, lines: Sequence[LogLine]) -> None:
        """Write all the lines in one request."""
        self.deliver(lines, ())

    def deliver(self, lines: Sequence[LogLine], reports: Sequence[StateReport]) -> None:
        """Write the lines, then set the states, in one request; if one of them is refused, nothing is stored."""
        logs = [log_input(line, with_id=True) for line in lines]
        states = [change_input(one, with_account=self._keeps_accounts) for one in reports]
        if self._lane.ask("report", logs=logs, states=states) is not None:
            return
        if lines:
            super().write_logs(lines)
        if reports:
            super().report_together(reports)

    def write_journals(
        self, requests: Iterable[Sequence[JournalPiece]], stored: Callable[[Sequence[int]], None]
    ) -> bool:
        """Store pieces of journals over the lane; return False without one."""
        return send_journals(self._lane, requests, stored)

    @property
    def followed_runs(self) -> frozenset[str]:
        """Ids of the flow runs whose lines somebody waits for, as the server last told."""
        return self._wakes.followed

    def heartbeat(self, flow_run_ids: Collection[str]) -> None:
        """Send the heartbeats of all the runs in one request."""
        if flow_run_ids and self._lane.ask("heartbeat", flow_run_ids=[*flow_run_ids]) is None:
            super().heartbeat(flow_run_ids)

    def stored_states(self, flow_run_ids: Collection[str]) -> dict[str, StoredState]:
        """Return the stored states of these runs, read at once."""
        answer = self._lane.ask("states", flow_run_ids=[*flow_run_ids]) if flow_run_ids else None
        if answer is None:
            return super().stored_states(flow_run_ids)
        with decoding("the states", self.address):
            return stored_states({"flow_run": answer.head["flow_runs"]}, flow_run_ids)

    def wait_for_wake(self, seen: int, timeout_s: float) -> Wake:
        """Wait for a push; at a server without a lane send a request that it answers when there is news."""
        return self._wakes.wait(timeout_s) or super().wait_for_wake(seen, timeout_s)

    def close(self) -> None:
        """Close this thread's connection, the lane's connections that no thread uses, and the subscription."""
        self._wakes.close()
        self._lane.close()
        super().close()

    def _introduction(self) -> Mapping[str, Any] | None:
        if self._agent_id is None:
            return None
        return {"agent_id": self._agent_id, "tenant_id": self._tenant_id}

    def _who(self) -> Mapping[str, Any]:
        return {"holder": self._holder, "labels": self._labels}
