"""The parts of a server's core that answer GraphQL requests, on a database, without an event loop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from flowherd_server.graphql.turns import Turns
from flowherd_server.runs.agent_contacts import AgentContacts
from flowherd_server.runs.live_board import LiveBoard
from flowherd_server.runs.stuck_runs import StuckRuns
from flowherd_server.runs.usual_durations import UsualDurations
from flowherd_server.store.database import Database


def core_of(database: Database) -> Any:
    """Return what stands for a ServerCore in calls of its methods `answer` and `change`."""
    live = LiveBoard()
    return SimpleNamespace(
        database=database,
        schedule_ahead=1,
        offers_runs=True,
        turns=Turns(),
        contacts=AgentContacts(database),
        live=live,
        stuck_runs=StuckRuns(live, UsualDurations()),
    )
