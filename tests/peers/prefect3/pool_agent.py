"""An agent as the process `flowherd start --pool`, and deployments for it that Prefect's own command has made."""

from __future__ import annotations

import hashlib
import json
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests.peers.environments import PREFECT_3, Installation, locked, required_installation
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.peers.prefect3.workspace import DEPLOYMENT_FIELDS, TERMINAL
from tests.support.commands import READY, Background, CommandLine, background
from tests.support.waiting import wait_until

_PROGRAM = Path(__file__).with_name("programs") / "pool_flows.py"
_FLOWS = ("greeting", "endless", "deadly", "patient", "failing", "suspending", "counting", "stubborn")
_SECRET = "{{ prefect.blocks.secret.pooled }}"
END_S = 60.0


class PoolAgent:
    """The command line of an agent, and the deployments of the flows of programs/pool_flows.py by the flow's name.

    `installation` is the Prefect of the runs and of the user's commands; by default it is the server's.
    """

    def __init__(
        self, prefect: PrefectServer, directory: Path, pool: str, installation: Installation | None = None
    ) -> None:
        self.prefect = prefect
        self._directory = directory
        self._pool = pool
        self.installation = installation or required_installation(PREFECT_3)
        kept = {name: value for name, value in prefect.environ().items() if not name.startswith("PREFECT_SERVER")}
        self.environ = {**kept, "PREFECT_API_URL": prefect.api}
        home = {"HOME": str(directory), "PREFECT_HOME": str(directory / "prefect")}
        self.command = CommandLine(directory / "flowherd", home)
        self.command.home.mkdir()
        self.deployments: dict[str, str] = {}
        #: Address of the HTTP API of an agent that a test has started with one.
        self.address = ""

    def prefect_command(self, *arguments: str) -> str:
        """Run Prefect's own command as a user does; return what it prints."""
        done = subprocess.run(
            [self.installation.prefect, "--no-prompt", *arguments],
            env=self.environ,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def deploy(self) -> None:
        """Make the pool, its secret, and the deployments."""
        self.prefect.add_pool(self._pool)
        self.prefect.keep_secret("pooled", "hush-hush")
        (self._directory / "flows.py").write_bytes(_PROGRAM.read_bytes())
        (self._directory / "prefect.yaml").write_text(_prefect_yaml(self._pool))
        self._carry_out_prefect_yaml()
        rows = self.prefect.ask("POST", "/deployments/filter", {"work_pools": {"name": {"any_": [self._pool]}}})
        self.deployments = {row["entrypoint"].partition(":")[2]: row["id"] for row in rows}

    def _carry_out_prefect_yaml(self) -> None:
        """Make the deployments by Prefect's own command, or as it has made them before: it takes seconds.

        They are kept beside its installation, for each version of the server.
        """
        digest = hashlib.sha256(_prefect_yaml("POOL").encode() + _PROGRAM.read_bytes()).hexdigest()[:12]
        kept = self.installation.directory.with_name(
            f"{self.installation.directory.name}-at-{self.prefect.installation.version}-{digest}.json"
        )
        with locked(kept.with_suffix(".json.lock")):
            if not kept.exists():
                self.prefect_command("deploy", "--all")
                made = json.dumps(self._made_deployments()).replace(str(self._directory), "DIRECTORY")
                kept.with_suffix(".new").write_text(made)
                kept.with_suffix(".new").rename(kept)
                return
        for row in json.loads(kept.read_text().replace("DIRECTORY", str(self._directory))):
            flow = self.prefect.ask("POST", "/flows/", {"name": row.pop("flow")})
            self.prefect.ask("POST", "/deployments/", {**row, "flow_id": flow["id"], "work_pool_name": self._pool})

    def _made_deployments(self) -> list[dict[str, Any]]:
        rows = self.prefect.ask("POST", "/deployments/filter", {"work_pools": {"name": {"any_": [self._pool]}}})
        fields = ("name", *(name for name in DEPLOYMENT_FIELDS if name != "flow_id"))
        flows = {row["flow_id"]: self.prefect.ask("GET", f"/flows/{row['flow_id']}")["name"] for row in rows}
        return [{"flow": flows[row["flow_id"]], **{name: row[name] for name in fields}} for row in rows]

    def start(self, **variables: str) -> AbstractContextManager[Background]:
        """Return a context in which the agent runs."""
        runtime = f"third={self.installation.python};core=3.*"
        options = ("--pool", self._pool, "--api", self.prefect.api, "--runtime", runtime)
        command = CommandLine(self.command.home, {**self.command.env, **variables})
        return background(command, "start", "-n", "pooled", *options, until=READY)

    def run(self, flow: str, **facts: Any) -> str:
        return self.prefect.add_run(self.deployments[flow], **facts)

    def messages(self, run_id: str) -> list[str]:
        return [row["message"] for row in self.prefect.log(run_id)]

    def parts(self, run_id: str) -> list[str]:
        """Return what the run's subflows have logged, in order, as the server has it."""
        asked = {"flow_runs": {"parent_flow_run_id": {"any_": [run_id]}}, "sort": "START_TIME_ASC"}
        subflows = self.prefect.ask("POST", "/flow_runs/filter", asked)
        return [text for row in subflows for text in self.messages(row["id"]) if text.startswith("part ")]

    def wait_for_line(self, run_id: str, text: str) -> None:
        wait_until(lambda: text in self.messages(run_id), timeout_s=END_S, what=lambda: self.story(run_id))

    def end(self, run_id: str) -> str:
        """Wait until the run has ended; return the type of its state."""
        wait_until(lambda: self.prefect.state(run_id) in TERMINAL, timeout_s=END_S, what=lambda: self.story(run_id))
        return self.prefect.state(run_id)

    def wait_for_process_end(self, run_id: str) -> None:
        """Wait until the agent has delivered the log of the process's end."""
        wait_until(
            lambda: any(row["name"] == "flowherd" and "process" in row["message"] for row in self.prefect.log(run_id)),
            timeout_s=END_S,
            what=lambda: self.story(run_id),
        )

    def states(self, run_id: str) -> list[str]:
        rows = self.prefect.ask("GET", f"/flow_run_states/?flow_run_id={run_id}")
        return [row["type"] for row in sorted(rows, key=lambda row: str(row["timestamp"]))]

    def story(self, run_id: str) -> str:
        """Describe the run for the message of a failed test."""
        return self.prefect.story(run_id)


def _prefect_yaml(pool: str) -> str:
    lines = f"work_pool:\n      name: {pool}\n      job_variables:\n        env:\n          SECRET: '{_SECRET}'\n"
    parts = [f"  - name: it\n    entrypoint: flows.py:{flow}\n    {lines}" for flow in _FLOWS]
    return "name: pooled\ndeployments:\n" + "".join(parts)
