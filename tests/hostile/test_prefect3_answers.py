"""Strange answers of a Prefect 3 server: a call that cannot use one raises a BackendError and nothing else."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from flowherd.backends.prefect3.backend import Prefect3Backend
from flowherd.backends.prefect3.pool import WorkPool
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendError
from flowherd.states import RunState
from flowherd.values import AgentIdentity, Flow, FlowRun, LogLine, StateReport
from tests.support.http_server import Answer, http_server

RUN_ID = "b41e4542-ec18-4b08-8cc5-dd319f3c0a11"
RUN = FlowRun(
    id=RUN_ID,
    name="run",
    version=0,
    state=RunState.SCHEDULED,
    serialized_state={},
    flow=Flow(id=str(uuid.uuid4()), name="flow"),
)
NOW = datetime.now(timezone.utc)
CALLS: dict[str, Callable[[Prefect3Backend], object]] = {
    "connect": lambda backend: backend.connect(),
    "check_token": lambda backend: backend.check_token(),
    "register": lambda backend: backend.register(AgentIdentity(type="Test", name="test", labels=())),
    "ready_runs": lambda backend: backend.ready_runs([], ()),
    "claim": lambda backend: backend.claim(RUN, "mine"),
    "running": lambda backend: backend.report(report(RunState.RUNNING, pid=5)),
    "failed": lambda backend: backend.report(report(RunState.FAILED)),
    "logs": lambda backend: backend.write_logs([line()]),
    "stored": lambda backend: backend.stored_states([RUN_ID]),
    "run_at_backend": lambda backend: backend.run_at_backend(RUN_ID),
    "wake": lambda backend: backend.wait_for_wake(0, 0.1),
}
VALUES: list[Any] = [
    None,
    5,
    "text",
    [],
    [None],
    [[]],
    {},
    {"id": 5},
    {"id": "../../etc", "type": "process", "state": []},
    {"status": "ACCEPT", "state": {"type": []}},
    {"id": RUN_ID, "flow_id": RUN_ID, "state_type": "NEW", "state": {"type": "NEW"}},
    {"id": RUN_ID, "flow_id": RUN_ID, "state_type": "SCHEDULED", "run_count": 10**30},
    {"id": RUN_ID, "type": "process", "base_job_template": 5},
    [{"flow_run": {"id": RUN_ID, "flow_id": RUN_ID, "state_type": "SCHEDULED", "name": "\ud800"}, "id": "x"}],
    [{"flow_run": None}],
    [{"timestamp": 5, "name": None, "level": [], "message": {}, "flow_run": {}, "id": None}],
]


def report(state: RunState, **facts: Any) -> StateReport:
    return StateReport(flow_run_id=RUN_ID, state=state, message="m", at=NOW, **facts)


def line() -> LogLine:
    return LogLine(flow_run_id=RUN_ID, at=NOW, stream="log", level=20, logger="x", message="m")


class StrangeServer:
    """Gives the same answer to every request."""

    def __init__(self) -> None:
        self.url = ""
        self.answer = Answer()


@pytest.fixture(scope="module")
def server() -> Iterator[StrangeServer]:
    strange = StrangeServer()
    with http_server(lambda _: strange.answer) as strange.url:
        yield strange


@pytest.fixture
def backend(server: StrangeServer) -> Iterator[Prefect3Backend]:
    transport = Prefect3Transport(f"{server.url}/api", timeout_s=5)
    backend = Prefect3Backend(transport, WorkPool(transport, "pool", ["queue"]))
    yield backend
    backend.close()


@pytest.mark.parametrize("value", VALUES, ids=lambda value: json.dumps(value)[:40])
@pytest.mark.parametrize("call", CALLS)
def test_a_value_of_another_shape_raises_no_other_error(
    server: StrangeServer, backend: Prefect3Backend, call: str, value: Any
) -> None:
    server.answer = Answer(body=json.dumps(value).encode())
    with contextlib.suppress(BackendError):
        CALLS[call](backend)


@pytest.mark.parametrize("status", [204, 302, 400, 404, 418, 500])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"detail": {"a": [5]}}', b'{"exception_detail": [5, {}]}', b"null"])
def test_a_status_with_any_body_raises_no_other_error(
    server: StrangeServer, backend: Prefect3Backend, status: int, body: bytes
) -> None:
    server.answer = Answer(status=status, body=b"" if status == 204 else body)
    for call in CALLS.values():
        with contextlib.suppress(BackendError):
            call(backend)
