"""What the server counts of the runs whose states it stores, for its metrics. In memory; each start begins at 0."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from loguru import logger
from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from flowherd.end_figures import known_figures
from flowherd.metrics.ended_runs import UNKNOWN, EndedRun, begin_flow, count_end, is_bad
from flowherd.metrics.tally import MOST_FLOWS, Tally
from flowherd.phase_times import known_phases
from flowherd.recurring_error import RecurringError
from flowherd.states import FINISHED, RunState
from flowherd_server.call import Effects, Moved
from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import SECOND_US, now_us
from flowherd_server.store.plain import StoredRow
from flowherd_server.store.tables import FLOW, FLOW_RUN

_NAME = select(FLOW.c.name).join(FLOW_RUN, FLOW_RUN.c.flow_id == FLOW.c.id)
_FLOWS = select(FLOW.c.id, FLOW.c.name).where(FLOW.c.archived.is_(False)).order_by(FLOW.c.created.desc())


class ServerMeasures:
    """The counters of one server. Usable from any thread that may read the database."""

    def __init__(self, database: Database) -> None:
        self.tally = Tally()
        self._database = database
        #: Names of flows by their ids.
        self._names: dict[str, str] = {}
        self._reading = RecurringError("read the names of flows for the metrics", logger)
        self._beginning = threading.Lock()
        self._has_begun = False

    def announce(self, effects: Effects) -> None:
        """Count what a transaction has changed, once it is stored."""
        if effects.lines:
            self.tally.add("flowherd_lines_in_total", by=effects.lines)
        for moved in effects.moved:
            self._count(moved)

    def begin(self, connection: Connection) -> None:
        """Have the series of known flows begin, once: an increase is seen only of a series that was there before."""
        with self._beginning:
            if self._has_begun:
                return
            ends: dict[str, tuple[int, str]] = {}
            for flow_id, name in connection.execute(_FLOWS.limit(MOST_FLOWS)):
                self._names[flow_id] = name
                end = _newest_end(connection, flow_id)
                if end is not None:
                    ends[name] = max(end, ends.get(name, end))
                begin_flow(self.tally, name)
            for name, (_, state) in ends.items():
                self.tally.begin("flowherd_flow_failing", float(is_bad(RunState(state))), self.tally.flow(name))
            self._has_begun = True

    def _count(self, moved: Moved) -> None:
        run, state = moved.run, moved.state
        before, at_s = run.get("state"), moved.at_us / SECOND_US
        if state is RunState.SUBMITTED:
            due_us = run.get("state_start_time")
            if due_us is not None:
                self.tally.observe("flowherd_waiting_seconds", at_s - due_us / SECOND_US)
        elif state is RunState.RUNNING and before == RunState.SUBMITTED:
            since_us = run.get("state_timestamp")
            if since_us is not None:
                self.tally.observe("flowherd_fork_seconds", at_s - since_us / SECOND_US)
        elif state in FINISHED and before not in FINISHED:
            self._count_end(moved, at_s)

    def _count_end(self, moved: Moved, at_s: float) -> None:
        run, marks = moved.run, _marks(moved.serialized)
        reason, started_us = marks.get("reason"), run.get("start_time")
        ended = EndedRun(
            flow=self._name(run),
            result=moved.state,
            cause=reason if isinstance(reason, str) else None,
            started=None if started_us is None else started_us / SECOND_US,
            ended=at_s,
            known=now_us() / SECOND_US,
            phases=dict(known_phases(marks.get("phases"))),
            figures=dict(known_figures(marks.get("figures"))),
        )
        count_end(self.tally, ended)

    def _name(self, run: StoredRow) -> str:
        flow_id = run.get("flow_id")
        known = None if flow_id is None else self._names.get(flow_id)
        if known is not None:
            return known
        try:
            with self._database.reading() as connection:
                name: str | None = connection.execute(_NAME.where(FLOW_RUN.c.id == run["id"])).scalar()
        except SQLAlchemyError as error:
            self._reading.failed(error)
            return UNKNOWN
        self._reading.recovered()
        if name is not None and flow_id is not None:
            self._names[flow_id] = name
        return name or UNKNOWN


def _marks(serialized: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what flowherd's own agent adds to a state."""
    context = serialized.get("context")
    marks = context.get("flowherd") if isinstance(context, dict) else None
    return marks if isinstance(marks, dict) else {}


def _newest_end(connection: Connection, flow_id: str) -> tuple[int, str] | None:
    """Return time and state of the end of the flow's newest run that has ended; None if there is none."""
    ends = select(FLOW_RUN.c.end_time, FLOW_RUN.c.state).where(
        FLOW_RUN.c.flow_id == flow_id, FLOW_RUN.c.end_time.is_not(None)
    )
    row = connection.execute(ends.order_by(FLOW_RUN.c.start_time.desc()).limit(1)).first()
    return None if row is None else (row.end_time, row.state)
