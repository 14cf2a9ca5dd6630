"""A server with flows that a real Prefect has registered, and a fork server that has imported that Prefect."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowherd.engines.base import AgentDefaults
from flowherd.engines.prefect1 import engine_environment
from flowherd.states import RunState
from flowherd.values import EngineAccess, Flow, FlowRun
from flowherd_runner.contract.journal import STREAM_NAMES
from flowherd_runner.contract.variables import KIND_PREFECT, PREFECT_PRELOAD
from tests.peers.environments import Peer
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.runner import ForkServer, Run
from tests.support.server import ServerProcess, running_server

_FLOWS = Path(__file__).with_name("programs") / "runner_flows.py"
_FOREIGN = ("PREFECT__", "FLOWHERD__", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass
class Stage:
    """One version of Prefect, its flows on a server, and the fork server that runs them."""

    peer: Peer
    server: ServerProcess
    place: Path
    fork_server: ForkServer
    flows: dict[str, str] = field(default_factory=dict)

    @property
    def client(self) -> Client:
        return Client(self.server)

    @property
    def home(self) -> Path:
        return self.place / "home"

    def register(self) -> None:
        """Have the real client register the flows."""
        env = {**clean_environment(), "HOME": str(self.home), "PREFECT__BACKEND": "server"}
        env["PREFECT__SERVER__ENDPOINT"] = self.server.url
        command = [self.peer.python, _FLOWS, "a project", self.place]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        self.flows = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("IDS "))[4:])

    def start(self, flow: str, fork_server: ForkServer | None = None, **given: Any) -> PrefectRun:
        """A run of that flow, on its way, under this fork server or another."""
        run = self.prepare(flow, fork_server, **given)
        (fork_server or self.fork_server).start(run.process)
        return run

    def prepare(
        self,
        flow: str,
        fork_server: ForkServer | None = None,
        *,
        parameters: dict[str, Any] | None = None,
        context: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        token: str = "",
        **spec: Any,
    ) -> PrefectRun:
        """A run of that flow, claimed, and its directory; `env` is added to what an agent would set."""
        run_id = self.client.create_run(self.flows[flow], parameters=parameters or {}, context=context or {})
        self.client.report(run_id, "Submitted")
        told = self.environment(run_id, self.flows[flow], token)
        whole = {"HOME": str(self.home), **told, **(env or {})}
        process = (fork_server or self.fork_server).prepare(KIND_PREFECT, {}, env=whole, **spec)
        return PrefectRun(self.client, run_id, process)

    def environment(self, run_id: str, flow_id: str, token: str = "") -> dict[str, str]:
        """What the agent tells the run's engine."""
        flow = Flow(id=flow_id, name="", core_version=self.peer.version)
        run = FlowRun(id=run_id, name="", version=1, state=RunState.SUBMITTED, serialized_state={}, flow=flow)
        access = EngineAccess(api=self.server.url, endpoint=self.server.url + "/graphql", token=token)
        import_paths = [str(self.place)]
        return engine_environment(run, {}, "/", AgentDefaults(import_paths=import_paths), access)


@dataclass
class PrefectRun:
    """One run: what the server knows of it, and its process."""

    client: Client
    id: str
    process: Run

    @property
    def states(self) -> list[str]:
        rows = self.client.run(self.id, "states(order_by: {version: asc}) { state }")["states"]
        return [row["state"] for row in rows]

    @property
    def message(self) -> str:
        return str(self.client.run(self.id, "state_message")["state_message"])

    @property
    def task_runs(self) -> dict[str, str]:
        """The tasks' names by their runs' ids."""
        rows = self.client.run(self.id, "task_runs { id task { name } }")["task_runs"]
        return {row["id"]: row["task"]["name"] for row in rows}

    def records(self) -> list[tuple[str, int, str, str | None]]:
        """Logger, level, message and task of every record in the journal."""
        tasks = self.task_runs
        found = [(record, json.loads(record.payload)) for record in self._of("log")]
        return [
            (said["logger"], record.level, said["message"], tasks.get(said.get("task_run_id")))
            for record, said in found
        ]

    def messages(self) -> list[str]:
        return [message for _, _, message, _ in self.records()]

    def _of(self, stream: str) -> list[Any]:
        return [record for record in self.process.records() if STREAM_NAMES[record.stream] == stream]


def clean_environment() -> dict[str, str]:
    """The environment of these tests without anybody's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}


@contextmanager
def on_stage(peer: Peer, place: Path) -> Iterator[Stage]:
    """All of it, ready; nothing of it is left at the end of the block."""
    home = place / "home"
    home.mkdir()
    with none_left(), running_server(place / "server") as server:
        fork_server = ForkServer(str(peer.python), place / "runs", preload=PREFECT_PRELOAD, env={"HOME": str(home)})
        try:
            stage = Stage(peer, server, place, fork_server)
            stage.register()
            yield stage
        finally:
            fork_server.close()
