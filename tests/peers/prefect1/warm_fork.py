"""An embedded server with flows of a real Prefect 0.x or 1.x, and a fork server that has imported that Prefect."""

from __future__ import annotations

import json
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
from flowherd_runner.contract.variables import KIND_PREFECT, PREFECT_PRELOAD
from tests.peers.environments import Installation
from tests.peers.prefect1.workspace import inherited_environment
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.runner import ForkServer, Run
from tests.support.server import ServerProcess, running_server

_FLOWS = Path(__file__).with_name("programs") / "runner_flows.py"


@dataclass
class WarmFork:
    """One version of Prefect, its flows on a server, and the fork server that runs them."""

    installation: Installation
    server: ServerProcess
    directory: Path
    fork_server: ForkServer
    #: Ids of the registered flows by their names.
    flows: dict[str, str] = field(default_factory=dict)

    @property
    def client(self) -> Client:
        return Client(self.server)

    @property
    def home(self) -> Path:
        return self.directory / "home"

    def register(self) -> None:
        """Have the real client register the flows."""
        env = {**inherited_environment(), "HOME": str(self.home), "PREFECT__BACKEND": "server"}
        env["PREFECT__SERVER__ENDPOINT"] = self.server.url
        command = [str(word) for word in (self.installation.python, _FLOWS, "a project", self.directory)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        self.flows = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("IDS "))[4:])

    def start(self, flow: str, fork_server: ForkServer | None = None, **given: Any) -> Prefect1EngineRun:
        """Start a run of that flow, under this fork server or another."""
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
    ) -> Prefect1EngineRun:
        """Create and claim a run of that flow and make its directory; `env` is added to what an agent would set."""
        run_id = self.client.create_run(self.flows[flow], parameters=parameters or {}, context=context or {})
        self.client.report(run_id, "Submitted")
        of_the_agent = self.environment(run_id, self.flows[flow], token)
        whole = {"HOME": str(self.home), **of_the_agent, **(env or {})}
        process = (fork_server or self.fork_server).prepare(KIND_PREFECT, {}, env=whole, **spec)
        return Prefect1EngineRun(self.client, run_id, process)

    def environment(self, run_id: str, flow_id: str, token: str = "") -> dict[str, str]:
        """Return the variables that an agent sets for the engine of a run."""
        flow = Flow(id=flow_id, name="", core_version=self.installation.version)
        run = FlowRun(id=run_id, name="", version=1, state=RunState.SUBMITTED, serialized_state={}, flow=flow)
        endpoint = self.server.url + "/graphql"
        access = EngineAccess(api=self.server.url, endpoint=endpoint, token=token, never_by_proxy=True)
        import_paths = [str(self.directory)]
        return engine_environment(run, {}, "/", AgentDefaults(import_paths=import_paths), access)


@dataclass
class Prefect1EngineRun:
    """One run: what the server has of it, and its process."""

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
        """Return logger, level, message and task of each record in the journal."""
        tasks = self.task_runs
        return [
            (record["logger"], level, record["message"], tasks.get(record.get("task_run_id", "")))
            for level, record in self.process.log_payloads()
        ]

    def messages(self) -> list[str]:
        return [message for _, _, message, _ in self.records()]


@contextmanager
def running_warm_fork(installation: Installation, directory: Path) -> Iterator[WarmFork]:
    """Start all of it; none of it is left at the end of the block."""
    home = directory / "home"
    home.mkdir()
    with none_left(), running_server(directory / "server") as server:
        env = {"HOME": str(home)}
        fork_server = ForkServer(str(installation.python), directory / "runs", preload=PREFECT_PRELOAD, env=env)
        try:
            fork = WarmFork(installation, server, directory, fork_server)
            fork.register()
            yield fork
        finally:
            fork_server.close()
