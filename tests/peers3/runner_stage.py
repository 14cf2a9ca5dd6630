"""A real Prefect 3 server, deployments on it, and a fork server that has imported that Prefect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowherd_runner.contract.journal import STREAM_NAMES
from flowherd_runner.contract.variables import IMPORT_ENVIRONMENT_VARIABLE, KIND_PREFECT3, PREFECT3_PRELOAD
from tests.peers.environments import THIRD, required_peer
from tests.peers3.environment import PrefectServer
from tests.support.runner import THREAD_AT_START, ForkServer, Run

_FLOWS = Path(__file__).with_name("programs")


@dataclass
class Stage:
    """Deployments of one pool, and the fork server that runs them."""

    prefect: PrefectServer
    place: Path
    fork_server: ForkServer
    pool: str = "stage"
    #: Of programs/.
    file: str = "flows.py"
    deployments: dict[str, str] = field(default_factory=dict)

    def deployment(self, flow: str) -> str:
        """Of that flow of the stage's file, reached by a pull step."""
        if flow not in self.deployments:
            self.deployments[flow] = self.deployment_at(_FLOWS, flow)
        return self.deployments[flow]

    def deployment_at(self, directory: Path, flow: str) -> str:
        """Of that flow of such a file there."""
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
        **facts: Any,
    ) -> FlowRun:
        """A claimed run of that flow, and its directory; `known` makes of its row what the agent has read already."""
        run_id = self.prefect.add_run(deployment or self.deployment(flow), **facts)
        target = known(self.prefect.run(run_id))
        assert self.prefect.set_state(run_id, "PENDING") == "ACCEPT"
        home = self.place / "run-home"
        told = {"HOME": str(home), "PREFECT_API_URL": self.prefect.api, "PREFECT__FLOW_RUN_ID": run_id}
        return FlowRun(
            self.prefect, run_id, self.fork_server.prepare(KIND_PREFECT3, target, env={**told, **(env or {})})
        )

    def start(self, flow: str, **given: Any) -> FlowRun:
        """A run of that flow, on its way."""
        run = self.prepare(flow, **given)
        self.fork_server.start(run.process)
        return run

    @contextmanager
    def threaded_fork_server(self, directory: Path) -> Iterator[ForkServer]:
        """One that cannot fork, because its interpreter starts with a thread: its runs go by exec."""
        (directory / "sitecustomize.py").write_text(THREAD_AT_START)
        python = str(required_peer(THIRD).python)
        fork_server = ForkServer(python, directory / "runs", env={"PYTHONPATH": str(directory)})
        try:
            yield fork_server
        finally:
            fork_server.close()

    @contextmanager
    def fork_server_of_another_prefect(self, directory: Path) -> Iterator[ForkServer]:
        """One whose Prefect has lost a private name that runs in the fork need."""
        (directory / "loses_a_name.py").write_text("import prefect.flow_engine as it; del it.load_flow_and_flow_run")
        python = str(required_peer(THIRD).python)
        preload = (*PREFECT3_PRELOAD, "loses_a_name")
        fork_server = ForkServer(python, directory / "runs", preload=preload, env={"PYTHONPATH": str(directory)})
        try:
            yield fork_server
        finally:
            fork_server.close()


@dataclass
class FlowRun:
    """One run: what the server knows of it, and its process."""

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
        """Logger, level, message and task run of every record in the journal."""
        return [(one["logger"], level, one["message"], one.get("task_run_id")) for level, one in self._payloads()]

    def messages(self) -> list[str]:
        return [message for _, _, message, _ in self.records()]

    def messages_of(self, subflow_run_id: str | None) -> list[str]:
        """Those of that subflow; of the run itself for None."""
        return [one["message"] for _, one in self._payloads() if one.get("flow_run_id") == subflow_run_id]

    def _payloads(self) -> list[tuple[int, dict[str, Any]]]:
        found = [record for record in self.process.records() if STREAM_NAMES[record.stream] == "log"]
        return [(record.level, json.loads(record.payload)) for record in found]


@contextmanager
def on_stage(
    prefect: PrefectServer, place: Path, pool: str = "stage", file: str = "flows.py", **of_all_runs: str
) -> Iterator[Stage]:
    """All of it, ready; nothing of it is left at the end of the block.

    `of_all_runs` are variables that the agent knows before the first run, and the fork server imports Prefect with.
    """
    (place / "run-home").mkdir(parents=True)
    prefect.add_pool(pool)
    env = {"DO_NOT_TRACK": "1", "HOME": prefect.environ()["HOME"]}
    if of_all_runs:
        env[IMPORT_ENVIRONMENT_VARIABLE] = json.dumps(of_all_runs)
    python = str(required_peer(THIRD).python)
    fork_server = ForkServer(python, place / "runs", preload=PREFECT3_PRELOAD, env=env)
    try:
        yield Stage(prefect, place, fork_server, pool, file)
    finally:
        fork_server.close()
