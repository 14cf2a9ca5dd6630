"""A directory of flows, deployed to two pools of one real Prefect 3 server: of its process worker and of flowherd."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers.agent_processes import (
    BOTH,
    OURS,
    THEIRS,
    AgentProcess,
    has_processes,
    has_run_directory,
    running_agent,
)
from tests.peers.compared_runs import RunInProgress
from tests.peers.environments import PREFECT_3, required_installation
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.support.commands import READY, CommandLine, background

TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
_PROGRAMS = Path(__file__).with_name("programs")
#: What is copied from a deployment to the same one in another pool.
DEPLOYMENT_FIELDS = (
    "flow_id",
    "entrypoint",
    "path",
    "pull_steps",
    "storage_document_id",
    "parameters",
    "parameter_openapi_schema",
    "enforce_parameter_schema",
    "job_variables",
    "tags",
    "version",
    "description",
)


@dataclass(frozen=True)
class Workspace:
    """The directory, the server, and the two pools. `agent` is always THEIRS or OURS."""

    directory: Path
    prefect: PrefectServer
    pools: tuple[str, str] = BOTH

    def pool(self, agent: str) -> str:
        return self.pools[BOTH.index(agent)]

    @property
    def flows(self) -> Path:
        return self.directory / "flows"

    @property
    def repository(self) -> str:
        return f"file://{self.directory}/flows.git"

    def environ(self, agent: str) -> dict[str, str]:
        """Return the environment of a program of Prefect's; each agent has its own results and caches."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        home = self.directory / agent
        home.mkdir(exist_ok=True)
        return {
            **kept,
            "COMPARED_AGENT": "of the agent",
            "HOME": str(home),
            "PREFECT_HOME": str(home / ".prefect"),
            "PREFECT_API_URL": self.prefect.api,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "1",
        }

    def fill(self, value: Any, agent: str = "") -> Any:
        """Replace the words in single braces in a value; Prefect's own double braces stay."""
        text = json.dumps(value)
        words = {
            "{agent}": agent,
            "{home}": str(self.directory),
            "{python}": str(required_installation(PREFECT_3).python),
            "{repository}": self.repository,
        }
        for word, meaning in words.items():
            text = text.replace(word, meaning)
        return json.loads(text)

    def command(self, program: str | Path, *arguments: str, agent: str = "deployer", timeout_s: float = 180) -> str:
        """Run a program, which must succeed; return what it prints."""
        done = subprocess.run(
            [program, *arguments],
            env=self.environ(agent),
            cwd=self.flows,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{program} {arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def prepare(self, program: str) -> None:
        """Make the flows' directory, a repository of it with a second branch, and the pools."""
        shutil.copytree(_PROGRAMS / program, self.flows, ignore=shutil.ignore_patterns("__pycache__"))
        (self.directory / "working").mkdir()
        identity = ("-c", "user.name=a person", "-c", "user.email=person@example.invalid")
        for words in (("init", "-q", "-b", "main"), ("add", "."), (*identity, "commit", "-q", "-m", "All")):
            self.command("git", *words)
        self.command("git", "branch", "other")
        self.command("git", "clone", "-q", "--bare", ".", str(self.directory / "flows.git"))
        for pool in self.pools:
            self.prefect.add_pool(pool)

    def deploy(self, deployments: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Deploy to THEIRS by Prefect's own command, and copy to OURS; return the ids by name.

        The names begin with THEIRS or OURS. It is one prefect.yaml, because JSON is YAML.
        """
        text = json.dumps({"name": "compared", "deployments": deployments}, indent=1)
        (self.flows / "prefect.yaml").write_text(text)
        self.command(required_installation(PREFECT_3).prefect, "--no-prompt", "deploy", "--all", timeout_s=400)
        rows: list[dict[str, Any]] = []
        while page := self.prefect.ask("POST", "/deployments/filter", {"limit": 200, "offset": len(rows)}):
            rows += page
        made = {row["name"]: row["id"] for row in rows if row["work_pool_name"] == self.pool(THEIRS)}
        return made | {row["name"].replace(THEIRS, OURS): self._copied(row) for row in rows if row["name"] in made}

    def _copied(self, row: Mapping[str, Any]) -> str:
        facts = {name: row[name] for name in DEPLOYMENT_FIELDS}
        body = {**facts, "name": row["name"].replace(THEIRS, OURS), "work_pool_name": self.pool(OURS)}
        return str(self.prefect.ask("POST", "/deployments/", body)["id"])

    def results(self, agent: str, run_ids: Sequence[str]) -> dict[str, str]:
        """Read the results of runs by the real client."""
        program = _PROGRAMS / "read_results.py"
        printed = self.command(required_installation(PREFECT_3).python, str(program), *run_ids, agent=agent)
        found: dict[str, str] = json.loads(printed.splitlines()[-1])
        return found


@dataclass(frozen=True)
class Prefect3Run(RunInProgress):
    """One run at the Prefect 3 server."""

    prefect: PrefectServer

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return self.prefect.ask(method, path, body)

    def wait_for_state(self, *types: str) -> None:
        self.wait(lambda: self.prefect.state(self.run_id) in types)

    def wait_for_line(self, text: str) -> None:
        self.wait(lambda: any(text in row["message"] for row in self.prefect.log(self.run_id)))

    def wait_for_end(self) -> None:
        self.wait_for_state(*TERMINAL)
        self.wait_for_rest()

    def story(self) -> str:
        run = self.prefect.run(self.run_id)
        lines = "\n".join(row["message"] for row in self.prefect.log(self.run_id))
        return f"{run['name']}, {self.agent.name}: {run['state']}\n{lines}\n{self.agent.text()[-1500:]}"


@contextmanager
def process_worker(workspace: Workspace, api: str = "", **more: str) -> Iterator[AgentProcess]:
    """Run Prefect's own process worker, unmodified; it looks for runs every second."""
    prefect = str(required_installation(PREFECT_3).prefect)
    pool = workspace.pool(THEIRS)
    with running_agent(
        THEIRS,
        [prefect, "--no-prompt", "worker", "start", "--pool", pool, "--type", "process", "--name", "compared"],
        {**workspace.environ(THEIRS), **more, "PREFECT_API_URL": api or workspace.prefect.api},
        workspace.directory,
        workspace.directory / "worker.out",
        ready="started!",
        still_has=has_processes("PREFECT__FLOW_RUN_ID"),
    ) as agent:
        yield agent


@contextmanager
def flowherd_agent(workspace: Workspace, api: str = "", **more: str) -> Iterator[AgentProcess]:
    """Run flowherd's agent at its pool, with the same Prefect for its runs."""
    home = workspace.directory / "flowherd"
    home.mkdir(exist_ok=True)
    # Else the directory of a run whose log is not sent stays for days, and the run would never be over.
    command = CommandLine(home, {**workspace.environ(OURS), "FLOWHERD__RUNS__KEEP": "0", **more})
    rule = f"third={required_installation(PREFECT_3).python};core=3.*"
    options = ("-n", "compared", "--pool", workspace.pool(OURS), "--api", api or workspace.prefect.api)
    still_has = has_run_directory(home / "agents" / "compared" / "runs")
    with background(command, "start", *options, "--runtime", rule, until=READY) as agent:
        yield AgentProcess(name=OURS, process=agent.process, output=agent.output, still_has=still_has)
