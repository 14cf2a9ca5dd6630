"""A real Prefect 3 server, deployments on it, and a fork server that has imported that Prefect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowherd_runner.contract.variables import (
    IMPORT_ENVIRONMENT_VARIABLE,
    KIND_PREFECT3,
    KIND_PREFECT3_COMMAND,
    PREFECT3_PRELOAD,
)
from tests.peers.environments import PREFECT_3, required_installation
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.support.runner import THREAD_AT_START, ForkServer, Run

_FLOWS = Path(__file__).with_name("programs")


@dataclass
class WarmFork:
    """Deployments of one pool, and the fork server that runs them."""

    prefect: PrefectServer
    directory: Path
    fork_server: ForkServer
    pool: str = "fork"
    #: File of programs/ with the flows.
    file: str = "flows.py"
    deployments: dict[str, str] = field(default_factory=dict)

    def deployment(self, flow: str) -> str:
        """Return the deployment of a flow, which a pull step leads to; make it the first time."""
        if flow not in self.deployments:
            self.deployments[flow] = self.deployment_at(_FLOWS, flow)
        return self.deployments[flow]

    def deployment_at(self, directory: Path, flow: str) -> str:
        """Deploy a flow of a file with the same name in another directory."""
        steps = [{"prefect.deployments.steps.set_working_directory": {"directory": str(directory)}}]
        name = f"{flow} in {directory.name}"
        return self.prefect.add_deployment(self.pool, name, entrypoint=f"{self.file}:{flow}", pull_steps=steps)

    def prepare(
        self,
        flow: str,
        *,
        env: dict[str, str] | None = None,
        deployment: str | None = None,
        known: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: {},
        command: list[str] | None = None,
        **facts: Any,
    ) -> Prefect3EngineRun:
        """Create and claim a run of that flow and make its directory.

        `known` returns what the agent has read already, from the row of the run. `command` takes the engine's place.
        """
        run_id = self.prefect.add_run(deployment or self.deployment(flow), **facts)
        target = {**known(self.prefect.run(run_id)), **({"argv": command} if command else {})}
        assert self.prefect.set_state(run_id, "PENDING") == "ACCEPT"
        home = self.directory / "run-home"
        of_the_agent = {"HOME": str(home), "PREFECT_API_URL": self.prefect.api, "PREFECT__FLOW_RUN_ID": run_id}
        return Prefect3EngineRun(
            self.prefect,
            run_id,
            self.fork_server.prepare(
                KIND_PREFECT3_COMMAND if command else KIND_PREFECT3, target, env={**of_the_agent, **(env or {})}
            ),
        )

    def start(self, flow: str, **given: Any) -> Prefect3EngineRun:
        """Start a run of that flow."""
        run = self.prepare(flow, **given)
        self.fork_server.start(run.process)
        return run

    @contextmanager
    def threaded_fork_server(self, directory: Path) -> Iterator[ForkServer]:
        """Start one that cannot fork, because its interpreter starts with a thread: its runs use exec."""
        (directory / "sitecustomize.py").write_text(THREAD_AT_START)
        python = str(required_installation(PREFECT_3).python)
        fork_server = ForkServer(python, directory / "runs", env={"PYTHONPATH": str(directory)})
        try:
            yield fork_server
        finally:
            fork_server.close()

    @contextmanager
    def fork_server_of_another_prefect(self, directory: Path) -> Iterator[ForkServer]:
        """Start one whose Prefect lacks a private name that runs in the fork need."""
        (directory / "loses_a_name.py").write_text(
            "import prefect.flow_engine as it, prefect.runner._workspace_resolver as resolver\n"
            "del it.load_flow_and_flow_run\n"
            "resolver.prepare_workspace = lambda one_value: None\n"
        )
        python = str(required_installation(PREFECT_3).python)
        preload = (*PREFECT3_PRELOAD, "loses_a_name")
        fork_server = ForkServer(python, directory / "runs", preload=preload, env={"PYTHONPATH": str(directory)})
        try:
            yield fork_server
        finally:
            fork_server.close()


@dataclass
class Prefect3EngineRun:
    """One run: what the server has of it, and its process."""

    prefect: PrefectServer
    id: str
    process: Run

    @property
    def states(self) -> list[str]:
        rows = self.prefect.ask("GET", f"/flow_run_states/?flow_run_id={self.id}")
        return [row["name"] for row in rows]

    def end(self) -> dict[str, Any]:
        return self.process.wait(60)

    def records(self) -> list[tuple[str, int, str, str | None]]:
        """Return logger, level, message and task run of each record in the journal."""
        return [
            (record["logger"], level, record["message"], record.get("task_run_id"))
            for level, record in self.process.log_payloads()
        ]

    def messages(self) -> list[str]:
        return [message for _, _, message, _ in self.records()]

    def messages_of(self, subflow_run_id: str | None) -> list[str]:
        """Return the messages of that subflow; of the run itself for None."""
        records = [record for _, record in self.process.log_payloads()]
        return [record["message"] for record in records if record.get("flow_run_id") == subflow_run_id]


@contextmanager
def running_warm_fork(
    prefect: PrefectServer, directory: Path, pool: str = "fork", file: str = "flows.py", **of_all_runs: str
) -> Iterator[WarmFork]:
    """Start all of it; none of it is left at the end of the block.

    The fork server imports Prefect with the variables `of_all_runs`, which the agent knows before the first run.
    """
    (directory / "run-home").mkdir(parents=True)
    prefect.add_pool(pool)
    env = {"DO_NOT_TRACK": "1", "HOME": prefect.environ()["HOME"]}
    if of_all_runs:
        env[IMPORT_ENVIRONMENT_VARIABLE] = json.dumps(of_all_runs)
    python = str(required_installation(PREFECT_3).python)
    fork_server = ForkServer(python, directory / "runs", preload=PREFECT3_PRELOAD, env=env)
    try:
        yield WarmFork(prefect, directory, fork_server, pool, file)
    finally:
        fork_server.close()
