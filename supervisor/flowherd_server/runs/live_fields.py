"""Fields of flow runs that are computed from what agents report (live_board.py), and from the end of their logs."""

from __future__ import annotations

from typing import Any

from graphql.type import GraphQLString
from sqlalchemy import Connection

from flowherd_server.graphql.scalars import TABLE_JSON
from flowherd_server.graphql.schema import ComputedField
from flowherd_server.runs.live_board import LiveBoard
from flowherd_server.runs.stuck_runs import StuckRuns
from flowherd_server.store.microseconds import now_us, to_datetime
from flowherd_server.store.plain import plain

#: The newest figures of the run; its curve, as [seconds since the epoch, bytes, share of a processor]; its processes,
#: which the agent is asked for when somebody asks; its last line; why it counts as stuck, in words. What an agent
#: reported last.
LIVE_FIELDS = (
    ComputedField("flow_run", "figures", TABLE_JSON, ("id",)),
    ComputedField("flow_run", "curve", TABLE_JSON, ("id",)),
    ComputedField("flow_run", "processes", TABLE_JSON, ("id",)),
    ComputedField("agent", "live", TABLE_JSON, ("id",)),
    ComputedField("flow_run", "last_line", GraphQLString, ("seq",)),
    ComputedField("flow_run", "stuck", GraphQLString, ("id", "state", "state_timestamp", "flow_id")),
)
#: Words in the text of a request that asks for figures.
WATCHING_WORDS = ("figures", "curve", "processes")
#: By the index of arrival alone, however long the log is: `logs` sorted by time with a limit would read all of it.
LAST_LINE = "SELECT substr(message, 1, 2000) FROM log_line WHERE run = ? ORDER BY id DESC LIMIT 1"


class LiveFields:
    """Computes these fields for one request, which reads over `connection`."""

    connection: Connection | None
    board: LiveBoard
    stuck_runs: StuckRuns

    def figures(self, run_id: str) -> dict[str, Any] | None:
        """Return the newest figures of a run that goes on."""
        found = self.board.figures(run_id)
        return None if found is None else found.as_json()

    def curve(self, run_id: str) -> list[Any]:
        """Return the memory and the CPU of a run that goes on, over the last hour."""
        return [list(sample) for sample in self.board.history(run_id)]

    def processes(self, run_id: str) -> list[dict[str, Any]]:
        """Return the processes of a run, and have its agent report them from now on."""
        self.board.watch(run_id)
        found = self.board.figures(run_id)
        return [] if found is None else found.as_json().get("tree", [])

    def live(self, agent_id: str) -> dict[str, Any] | None:
        """Return the newest report of an agent; None if none came lately."""
        found = next(iter(self.board.agents(agent_id)), None)
        return None if found is None else {**found.report.as_json(), "reported_at": found.at}

    def last_line(self, seq: int) -> str | None:
        """Return the begin of the line of the run's log that came last; None if it has none."""
        row = None if self.connection is None else plain(self.connection).execute(LAST_LINE, (seq,)).fetchone()
        return None if row is None else str(row[0])

    def stuck(self, run_id: str, state: str, since_us: int, flow_id: str) -> str | None:
        """Return why a run counts as stuck; None if it does not."""
        if self.connection is None:
            return None
        run = {"id": run_id, "state": state, "state_timestamp": since_us, "flow_id": flow_id}
        return self.stuck_runs.reason(self.connection, run, to_datetime(now_us())) or None
