"""Fills a server's database with many runs before the server starts, as a host with many flows would have them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from flowherd_server.store.database import FILE_NAME, Database
from flowherd_server.store.tables import AGENT, FLOW, FLOW_GROUP, FLOW_RUN, PROJECT, TENANT

SECOND_US = 1_000_000
#: A name of 200 characters whose ends differ.
LONG_NAME = "warehouse-" + "history-" * 22 + "central-shards"


def now_us() -> int:
    return time.time_ns() // 1000


class Filling:
    """Rows for the database of a server; `write` stores them."""

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True)
        self._database = Database(data_dir / FILE_NAME)
        with self._database.reading() as connection:
            self._tenant = connection.execute(select(TENANT.c.id)).scalar()
        self._rows: dict[Any, list[dict[str, Any]]] = {PROJECT: [], FLOW_GROUP: [], FLOW: [], AGENT: [], FLOW_RUN: []}
        self.now = now_us()
        self._project = self._row(PROJECT, name="main")

    def flow(self, name: str, *, cron: str | None = None, **more: Any) -> str:
        """Add a flow; return its id."""
        group = self._row(
            FLOW_GROUP,
            name=name,
            labels=None,
            schedule=None,
            default_parameters={},
            settings={"lazarus_enabled": False},
        )
        schedule = None if cron is None else {"clocks": [{"type": "CronClock", "cron": cron, "start_date": None}]}
        given = {"parameters": [], "storage": {}, **more}
        return self._row(
            FLOW,
            project_id=self._project,
            flow_group_id=group,
            version_group_id=group,
            version=1,
            name=name,
            archived=False,
            settings={},
            serialized_flow={},
            schedule=schedule,
            # The server is not to make runs of its own.
            is_schedule_active=cron is not None,
            updated=self.now,
            **given,
        )

    def agent(
        self, name: str, labels: Iterable[str] = (), *, heard_s: float = 0.0, report: dict[str, Any] | None = None
    ) -> str:
        """Add an agent that made its last request `heard_s` seconds ago; return its id."""
        heard = self.now - round(heard_s * SECOND_US)
        given = {"name": name, "labels": sorted(labels), "last_queried": heard, "report": report}
        return self._row(AGENT, type="FlowherdAgent", **given)

    def run(
        self,
        flow_id: str,
        state: str,
        *,
        due_s: float = 0.0,
        started_s: float | None = None,
        ended_s: float | None = None,
        **given: Any,
    ) -> str:
        """Add a run; its times are in seconds before the present, so that those to come are negative."""
        due, started, ended = (
            None if at is None else self.now - round(at * SECOND_US) for at in (due_s, started_s, ended_s)
        )
        waits = state in ("Scheduled", "Retrying", "Queued", "Paused")
        row = {
            "name": f"run-{len(self._rows[FLOW_RUN])}",
            "parameters": {},
            "labels": [],
            "auto_scheduled": False,
            "version": 1,
            "serialized_state": {"type": state, "message": given.get("state_message")},
            "state_timestamp": self.now,
            "state_start_time": due if waits else None,
            "times_resurrected": 0,
            "updated": self.now,
            "state_message": None,
            "agent_id": None,
            **given,
        }
        return self._row(
            FLOW_RUN,
            flow_id=flow_id,
            state=state,
            scheduled_start_time=due,
            start_time=started,
            end_time=ended,
            **row,
        )

    def write(self) -> None:
        """Store all rows."""
        with closing(self._database) as database, database.writing() as connection:
            for table, rows in self._rows.items():
                if rows:
                    connection.execute(insert(table), rows)

    def _row(self, table: Any, **given: Any) -> str:
        tenant: Mapping[str, Any] = {"tenant_id": self._tenant} if "tenant_id" in table.c else {}
        row = {"id": str(uuid.uuid4()), "created": self.now + len(self._rows[table]), **tenant, **given}
        self._rows[table].append(row)
        return str(row["id"])


def busy_host(data_dir: Path, *, scheduled: int = 5000, running: int = 50, flows: int = 10) -> Filling:
    """Fill a database as a busy host has it: runs of a few flows, all with names of 200 characters."""
    filling = Filling(data_dir)
    agent = filling.agent("agent-" + LONG_NAME[:194], ["etl"], heard_s=3600)
    ids = [filling.flow(f"{LONG_NAME[:198]}{n:02}", cron="*/5 * * * *") for n in range(flows)]
    for n in range(running):
        filling.run(ids[n % flows], "Running", due_s=60 + n, started_s=50 + n, name=LONG_NAME, agent_id=agent)
    for n in range(scheduled):
        filling.run(ids[n % flows], "Scheduled", due_s=-300.0 * (n + 1), name=f"{LONG_NAME}{n}", labels=["etl"])
    for n in range(3):
        filling.run(
            ids[0], "Failed", due_s=900 + n, started_s=800 + n, ended_s=700 + n, state_message="Exit code 3. " * 30
        )
    filling.run(ids[1], "Scheduled", due_s=600, name="late", labels=["mailer"])
    for n in range(200):
        filling.run(ids[n % flows], "Success", due_s=90_000 + n, started_s=89_000 + n, ended_s=88_000 + n)
    filling.write()
    return filling
