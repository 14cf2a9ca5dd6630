"""One person's connection to a server: flows, runs and agents, and a run's log and history."""

from __future__ import annotations

from flowherd.backends.graphql.transport import FLOW_RULES, SCHEDULES, TEXT_SO_FAR, GraphQLTransport
from flowherd.client.agents import KnownAgents
from flowherd.client.attempts import Attempts, attempts_of
from flowherd.client.flow_list import FlowList
from flowherd.client.flows import Flows
from flowherd.client.history import RunHistory
from flowherd.client.logs import RunLog
from flowherd.client.queries import is_flowherd_server
from flowherd.client.removal import FlowRemoval
from flowherd.client.run_changes import RunChanges
from flowherd.client.run_end import EndWait
from flowherd.client.run_list import RunList
from flowherd.client.runs import Runs
from flowherd.client.schedules import Schedules
from flowherd.client.started_runs import StartedRuns
from flowherd.client.wanted_lines import WantedLines


class UserClient:
    """What a person can ask of one server. Every request raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport
        self.flows = Flows(transport)
        self.flow_list = FlowList(transport)
        self.runs = Runs(transport)
        self.run_list = RunList(transport)
        self.schedules = Schedules(transport)
        self.agents = KnownAgents(transport)
        self.run_changes = RunChanges(transport, self.runs)
        self.removal = FlowRemoval(transport)

    @property
    def address(self) -> str:
        """The server's address, without a path."""
        return self._transport.origin

    def is_flowherd_server(self) -> bool:
        """Ask whether the server is flowherd's own, which can wake agents and numbers log lines."""
        return is_flowherd_server(self._transport)

    def follows_own_clocks(self) -> bool:
        """Ask whether the server follows flowherd's own clock, FlowherdCron, and tells the times of schedules."""
        return self.is_flowherd_server() and SCHEDULES in self._transport.server_extensions

    def follows_rules(self) -> bool:
        """Ask whether the server applies the rules of flows (flow_rules.py)."""
        return self.is_flowherd_server() and FLOW_RULES in self._transport.server_extensions

    def log(self, run_id: str, wanted: WantedLines = WantedLines()) -> RunLog:
        """Return a reader of a run's log, or of a part of it, which starts at its beginning."""
        numbered = self.is_flowherd_server()
        keeps_text_so_far = TEXT_SO_FAR in self._transport.server_extensions
        return RunLog(self._transport, run_id, numbered=numbered, keeps_text_so_far=keeps_text_so_far, wanted=wanted)

    def started_runs(self, flow: str, project: str | None = None) -> StartedRuns:
        """Return the runs of a flow as they start."""
        return StartedRuns(self._transport, flow, project)

    def attempts(self, run_id: str) -> Attempts:
        """Return the attempts of a run."""
        return attempts_of(self._transport, run_id)

    def history(self, run_id: str) -> RunHistory:
        """Return the history of a run."""
        return RunHistory(self._transport, run_id)

    def end_of(self, run_id: str) -> EndWait:
        """Begin to wait for the end of a run."""
        return EndWait(self._transport, run_id)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()
