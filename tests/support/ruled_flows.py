"""A server's database with flows that have rules, and agents that claim and report, at a clock of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from flowherd_server.call import Call, Caller, Effects
from flowherd_server.mutations import OPERATIONS
from flowherd_server.rules.gatekeeper import Gatekeeper
from flowherd_server.schedules.auto_runs import active_flow, create_auto_runs, due_flow_ids
from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import SECOND_US, format_time
from flowherd_server.store.tables import FLOW_RUN

_OPERATIONS = {operation.name: operation for operation in OPERATIONS}
AHEAD = 4
MINUTE_US = 60 * SECOND_US
NOON_US = 1_700_000_000 * SECOND_US - 1_700_000_000 * SECOND_US % MINUTE_US


class World:
    """One server's database with flows, and agents that claim and report, at a clock of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = NOON_US
        self.effects = Effects()
        #: Whether the server hands out runs; not in the first seconds after an older copy was restored.
        self.offers_runs = True
        self.gatekeeper = Gatekeeper(database, AHEAD, lambda: self.now)
        self._project = self.do("create_project", name="p")["id"]

    def do(self, name: str, /, **given: Any) -> Mapping[str, Any]:
        operation = _OPERATIONS[name]
        prepared = operation.prepare(given)
        with self.database.writing(durable=False) as connection:
            call = Call(connection, Caller(), self.now, AHEAD, self.offers_runs)
            answer = operation.handle(call, prepared)
        self._announce(call.effects)
        return answer

    def _announce(self, effects: Effects) -> None:
        self.effects.add(effects)
        self.gatekeeper.has_news(effects)

    def flow(self, *, name: str = "f", every_us: int | None = None, **rules: Any) -> str:
        schedule = None
        if every_us is not None:
            start = {"dt": format_time(NOON_US).replace("+00:00", ""), "tz": "UTC"}
            schedule = {"clocks": [{"type": "IntervalClock", "interval": every_us, "start_date": start}]}
        document = {"name": name, "schedule": schedule, "storage": {"type": "Command", "argv": ["true"]}}
        document |= {"flowherd": rules} if rules else {}
        given = {"project_id": self._project, "serialized_flow": document, "set_schedule_active": True}
        return str(self.do("create_flow", **given)["id"])

    def run(self, flow_id: str, name: str) -> str:
        return str(self.do("create_flow_run", flow_id=flow_id, flow_run_name=name)["id"])

    def wins(self, *run_ids: str, agent: str = "a") -> list[bool]:
        """Claim all these runs in one request, as one agent does."""
        claims = [
            {"flow_run_id": run_id, "version": self.row(run_id)["version"], "claim": f"{agent}/{run_id}"}
            for run_id in run_ids
        ]
        return [each["won"] for each in self.do("claim_runs", claims=claims)["claims"]]

    def start(self, run_id: str) -> None:
        assert self.wins(run_id) == [True]
        self.report(run_id, "Running")

    def report(self, run_id: str, state: str, agent: str = "a", **marks: Any) -> None:
        marks = {"claim": f"{agent}/{run_id}", "at": format_time(self.now), **marks}
        message = marks.pop("message", f"now {state}")
        serialized = {"type": state, "message": message, "context": {"flowherd": marks}}
        self.do("set_flow_run_states", states=[{"flow_run_id": run_id, "state": serialized}])

    def row(self, run_id: str) -> Any:
        with self.database.reading() as connection:
            return connection.execute(select(FLOW_RUN).where(FLOW_RUN.c.id == run_id)).mappings().one()

    def states(self, *run_ids: str) -> list[str]:
        return [self.row(run_id)["state"] for run_id in run_ids]

    def message(self, run_id: str) -> str:
        return str(self.row(run_id)["state_message"])

    def due(self) -> list[str]:
        """Return what an agent is handed out, the longest due first."""
        return list(self.do("get_runs_in_queue", labels=[])["flow_run_ids"])

    def pass_time(self, *, scheduler: bool = True, seconds: float) -> None:
        """Let the clock go on, with the server's own looks at the end of that time."""
        self.now += round(seconds * SECOND_US)
        if scheduler:
            self.look()

    def look(self) -> None:
        """Do what the server does by itself: create the runs of schedules, and apply the rules."""
        with self.database.writing() as connection:
            call = Call(connection, Caller(), self.now, AHEAD)
            for flow_id in due_flow_ids(connection, self.now):
                flow = active_flow(connection, flow_id)
                assert flow is not None
                create_auto_runs(call, flow, make_up=True)
        self._announce(call.effects)
        self._announce(self.gatekeeper.look()[0])

    def scheduled(self, flow_id: str) -> list[tuple[int, str]]:
        """Return minute and state of the flow's runs that were due by now, in order."""
        query = select(FLOW_RUN.c.scheduled_start_time, FLOW_RUN.c.state)
        query = query.where(FLOW_RUN.c.flow_id == flow_id, FLOW_RUN.c.scheduled_start_time <= self.now)
        with self.database.reading() as connection:
            rows = connection.execute(query.order_by(FLOW_RUN.c.scheduled_start_time)).all()
        return [((at - NOON_US) // MINUTE_US, state) for at, state in rows]
