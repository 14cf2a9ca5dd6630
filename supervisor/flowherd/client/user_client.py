"""One person's connection to a server: flows, runs and agents, and a run's log and history.

Its parts are imported when they are first used: a command needs two or three of them, and starts in less time so.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from flowherd.backends.graphql.transport import FLOW_RULES, SCHEDULES, TEXT_SO_FAR, GraphQLTransport
from flowherd.client.queries import is_flowherd_server

if TYPE_CHECKING:
    from flowherd.client.agent_orders import AgentOrders
    from flowherd.client.agents import KnownAgents
    from flowherd.client.attempts import Attempts
    from flowherd.client.flow_list import FlowList
    from flowherd.client.flows import Flows
    from flowherd.client.flows_of_project import FlowsOfProject
    from flowherd.client.history import RunHistory
    from flowherd.client.logs import RunLog
    from flowherd.client.notifications import Notifications
    from flowherd.client.removal import FlowRemoval
    from flowherd.client.run_changes import RunChanges
    from flowherd.client.run_details import RunDetails
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

    @cached_property
    def flows(self) -> Flows:
        """Projects and registered flows."""
        from flowherd.client.flows import Flows

        return Flows(self._transport)

    @cached_property
    def flow_list(self) -> FlowList:
        """Registered flows with their last runs."""
        from flowherd.client.flow_list import FlowList

        return FlowList(self._transport)

    @cached_property
    def runs(self) -> Runs:
        """Flow runs: create and find."""
        from flowherd.client.runs import Runs

        return Runs(self._transport)

    @cached_property
    def run_list(self) -> RunList:
        """Lists of runs."""
        from flowherd.client.run_list import RunList

        return RunList(self._transport)

    @cached_property
    def schedules(self) -> Schedules:
        """The schedules of flows."""
        from flowherd.client.schedules import Schedules

        return Schedules(self._transport)

    @cached_property
    def agents(self) -> KnownAgents:
        """The agents that the server knows."""
        from flowherd.client.agents import KnownAgents

        return KnownAgents(self._transport)

    @cached_property
    def agent_orders(self) -> AgentOrders:
        """What agents are asked over the server."""
        from flowherd.client.agent_orders import AgentOrders

        return AgentOrders(self._transport)

    @cached_property
    def run_changes(self) -> RunChanges:
        """Changes of runs that exist."""
        from flowherd.client.run_changes import RunChanges

        return RunChanges(self._transport, self.runs)

    @cached_property
    def removal(self) -> FlowRemoval:
        """Taking flows away."""
        from flowherd.client.removal import FlowRemoval

        return FlowRemoval(self._transport)

    @cached_property
    def flows_of_project(self) -> FlowsOfProject:
        """The flows that an `apply` of a project made."""
        from flowherd.client.flows_of_project import FlowsOfProject

        return FlowsOfProject(self._transport)

    @cached_property
    def notifications(self) -> Notifications:
        """Rules and channels of notifications, and what became of these."""
        from flowherd.client.notifications import Notifications

        return Notifications(self._transport)

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

    def log(self, run_id: str, wanted: WantedLines | None = None) -> RunLog:
        """Return a reader of a run's log, or of a part of it, which starts at its beginning."""
        from flowherd.client.logs import RunLog
        from flowherd.client.wanted_lines import WantedLines

        numbered = self.is_flowherd_server()
        keeps_text_so_far = TEXT_SO_FAR in self._transport.server_extensions
        return RunLog(
            self._transport,
            run_id,
            numbered=numbered,
            keeps_text_so_far=keeps_text_so_far,
            wanted=wanted or WantedLines(),
        )

    def started_runs(self, flow: str, project: str | None = None) -> StartedRuns:
        """Return the runs of a flow as they start."""
        from flowherd.client.started_runs import StartedRuns

        return StartedRuns(self._transport, flow, project)

    def attempts(self, run_id: str) -> Attempts:
        """Return the attempts of a run."""
        from flowherd.client.attempts import attempts_of

        return attempts_of(self._transport, run_id)

    def details(self, run_id: str) -> RunDetails:
        """Return what is known of one run beside its row: processes, curve, what its end carried."""
        from flowherd.client.run_details import details_of

        return details_of(self._transport, run_id)

    def history(self, run_id: str) -> RunHistory:
        """Return the history of a run."""
        from flowherd.client.history import RunHistory

        return RunHistory(self._transport, run_id)

    def end_of(self, run_id: str) -> EndWait:
        """Begin to wait for the end of a run."""
        from flowherd.client.run_end import EndWait

        return EndWait(self._transport, run_id)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()
