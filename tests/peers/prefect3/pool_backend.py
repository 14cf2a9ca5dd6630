"""Prefect 3 backends at a real server, and values for their calls."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

from flowherd.backends.prefect3.backend import Prefect3Backend
from flowherd.backends.prefect3.pool import WorkPool
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.states import RunState
from flowherd.values import AgentIdentity, FlowRun, LogLine, StateReport, Wake
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.support.waiting import wait_until

IDENTITY = AgentIdentity(type="Test", name="tester", labels=("ignored",))


def new_backend(prefect: PrefectServer, pool: str, queues: list[str] | None = None, **facts: Any) -> Prefect3Backend:
    transport = Prefect3Transport(prefect.api, timeout_s=20)
    return Prefect3Backend(transport, WorkPool(transport, pool, queues or ()), **facts)


def ready(backend: Prefect3Backend, run_id: str) -> FlowRun:
    return next(run for run in backend.ready_runs([], ()) if run.id == run_id)


def outlast_poll() -> None:
    """Wait until a claim reads its run anew.

    One that comes within a tenth of a second relies on the poll, because no run could have been carried out since.
    """
    begin_s = time.monotonic()
    wait_until(lambda: time.monotonic() > begin_s + 0.2, what="the poll to be some time ago")


def claimed(prefect: PrefectServer, backend: Prefect3Backend, deployment: str, token: str = "mine") -> str:
    """Create a run and claim it; return its id."""
    run_id = prefect.add_run(deployment)
    backend.claim(ready(backend, run_id), token)
    return run_id


def report(run_id: str, state: RunState, claim: str = "mine", **facts: Any) -> StateReport:
    return StateReport(
        flow_run_id=run_id, state=state, message=f"now {state}", at=datetime.now(timezone.utc), claim=claim, **facts
    )


def line(run_id: str, number: int, at: datetime, **facts: Any) -> LogLine:
    given = {"stream": "log", "level": 20, "logger": "mine", "message": f"line {number}", **facts}
    return LogLine(flow_run_id=run_id, at=at + timedelta(microseconds=number), line_id=str(number), **given)


def woken(backend: Prefect3Backend, seen: Wake) -> Wake:
    """Wait for the next event; return the wake."""
    wake = backend.wait_for_wake(seen.sequence, 10.0)
    assert wake.sequence != seen.sequence, "not woken"
    return wake


def states(prefect: PrefectServer, run_id: str) -> list[str]:
    """Return the types of a run's states, oldest first."""
    rows = prefect.ask("GET", f"/flow_run_states/?flow_run_id={run_id}")
    return [str(row["type"]) for row in sorted(rows, key=lambda row: str(row["timestamp"]))]
