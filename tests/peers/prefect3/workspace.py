"""One real Prefect 3 server, and beside each other at it the real process worker and flowherd, a work pool each."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers.environments import PREFECT_3, required_installation
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.support.commands import READY, CommandLine, background
from tests.support.leftovers import carriers
from tests.support.waiting import wait_until

THEIRS, OURS = BOTH = ("theirs", "ours")
#: Whether all is to be run that there is; it takes many minutes.
ALL = os.environ.get("FLOWHERD_ALL_SCENARIOS") == "1"
TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
#: The process worker needs some seconds for each run, and several go at once on a busy machine.
RUN_S = 180.0
#: Its SQLite database serves one at a time, and those who wait for runs are not to hinder them.
_ASKED_EVERY_S = 0.3
_PROGRAMS = Path(__file__).with_name("programs")
_OF_A_DEPLOYMENT = (
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
_SEES_THE_AGENT = {"COMPARED_AGENT": "of the agent"}


@dataclass(frozen=True)
class Place:
    """Directories, and what flows and people find there. `who` is the one whose deployments are meant."""

    directory: Path
    prefect: PrefectServer
    pools: tuple[str, str] = BOTH

    def pool(self, who: str) -> str:
        return self.pools[BOTH.index(who)]

    @property
    def flows(self) -> Path:
        return self.directory / "flows"

    @property
    def repository(self) -> str:
        return f"file://{self.directory}/compared.git"

    def environ(self, who: str) -> dict[str, str]:
        """For a program of Prefect's; results and caches of the two are apart."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        home = self.directory / who
        home.mkdir(exist_ok=True)
        return {
            **kept,
            **_SEES_THE_AGENT,
            "HOME": str(home),
            "PREFECT_HOME": str(home / ".prefect"),
            "PREFECT_API_URL": self.prefect.api,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "1",
        }

    def fill(self, value: Any, who: str = "") -> Any:
        """The value with our words in their places; Prefect's own double braces stay."""
        text = json.dumps(value)
        words = {
            "{who}": who,
            "{home}": str(self.directory),
            "{python}": str(required_installation(PREFECT_3).python),
            "{repository}": self.repository,
        }
        for word, meant in words.items():
            text = text.replace(word, meant)
        return json.loads(text)

    def command(self, program: str | Path, *arguments: str, who: str = "deployer", timeout_s: float = 180) -> str:
        """What it prints; it must succeed."""
        done = subprocess.run(
            [program, *arguments],
            env=self.environ(who),
            cwd=self.flows,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{program} {arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def prepare(self, program: str = "compared") -> None:
        """The flows, a repository of them with a second branch, and what they look up at the server."""
        shutil.copytree(_PROGRAMS / program, self.flows, ignore=shutil.ignore_patterns("__pycache__"))
        (self.directory / "working").mkdir()
        identity = ("-c", "user.name=a person", "-c", "user.email=person@example.invalid")
        for words in (("init", "-q", "-b", "main"), ("add", "."), (*identity, "commit", "-q", "-m", "All")):
            self.command("git", *words)
        self.command("git", "branch", "other")
        self.command("git", "clone", "-q", "--bare", ".", str(self.directory / "compared.git"))
        for pool in self.pools:
            self.prefect.add_pool(pool)

    def keep_values(self) -> None:
        """What the flows of programs/compared look up at the server."""
        for name, facts in {"compared": {}, "compared-rate": {"slot_decay_per_second": 10}}.items():
            self.prefect.ask("POST", "/v2/concurrency_limits/", {"name": name, "limit": 1, **facts})
        self.prefect.ask("POST", "/variables/", {"name": "compared_word", "value": "of the variable"})
        self.prefect.keep_secret("compared", "hush-hush")

    def deploy(self, deployments: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """By Prefect's own command, from one prefect.yaml (JSON is YAML), and copied to our pool; the ids by name."""
        text = json.dumps({"name": "compared", "deployments": deployments}, indent=1)
        (self.flows / "prefect.yaml").write_text(text)
        self.command(required_installation(PREFECT_3).prefect, "--no-prompt", "deploy", "--all", timeout_s=400)
        rows: list[dict[str, Any]] = []
        while page := self.prefect.ask("POST", "/deployments/filter", {"limit": 200, "offset": len(rows)}):
            rows += page
        made = {row["name"]: row["id"] for row in rows if row["work_pool_name"] == self.pool(THEIRS)}
        return made | {row["name"].replace(THEIRS, OURS): self._copied(row) for row in rows if row["name"] in made}

    def _copied(self, row: Mapping[str, Any]) -> str:
        """The same deployment in our pool, all that may be told of one."""
        facts = {name: row[name] for name in _OF_A_DEPLOYMENT}
        body = {**facts, "name": row["name"].replace(THEIRS, OURS), "work_pool_name": self.pool(OURS)}
        return str(self.prefect.ask("POST", "/deployments/", body)["id"])

    def results(self, who: str, run_ids: Sequence[str]) -> dict[str, str]:
        """What the real client reads of the runs' results."""
        program = _PROGRAMS / "read_results.py"
        found: dict[str, str] = json.loads(
            self.command(required_installation(PREFECT_3).python, str(program), *run_ids, who=who).splitlines()[-1]
        )
        return found


@dataclass(frozen=True)
class Taker:
    """Who takes the runs of a pool: the real worker, or flowherd."""

    who: str
    process: subprocess.Popen[bytes]
    output: Path
    #: Where flowherd's agent has its runs' directories; one goes when the run's log and end have been delivered.
    directories: Path

    def still_has(self, run_id: str) -> bool:
        if self.who == OURS:
            return (self.directories / run_id).exists()
        return bool(carriers(run_id, "PREFECT__FLOW_RUN_ID"))

    def text(self) -> str:
        return self.output.read_text(errors="replace")


@dataclass(frozen=True)
class Handle:
    """One run that goes on, for what a person does meanwhile."""

    prefect: PrefectServer
    taker: Taker
    run_id: str

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return self.prefect.ask(method, path, body)

    def wait_for_state(self, *types: str) -> None:
        self._wait(lambda: self.prefect.state(self.run_id) in types)

    def wait_for_line(self, text: str) -> None:
        self._wait(lambda: any(text in row["message"] for row in self.prefect.log(self.run_id)))

    def wait_for_rest(self) -> None:
        """Until nothing of the run's process is there, nor of its log to be sent."""
        self._wait(lambda: not self.taker.still_has(self.run_id))

    def wait_for_end(self) -> None:
        self.wait_for_state(*TERMINAL)
        self.wait_for_rest()

    def _wait(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, timeout_s=RUN_S, what=self.story, every_s=_ASKED_EVERY_S)

    def story(self) -> str:
        run = self.prefect.run(self.run_id)
        lines = "\n".join(row["message"] for row in self.prefect.log(self.run_id))
        return f"{run['name']}, {self.taker.who}: {run['state']}\n{lines}\n{self.taker.text()[-1500:]}"


@contextmanager
def real_worker(place: Place, api: str = "", **more: str) -> Iterator[Taker]:
    """Prefect's own process worker, unmodified; it looks for runs every second."""
    pool = place.pool(THEIRS)
    output = place.directory / "worker.out"
    command = [
        required_installation(PREFECT_3).prefect,
        "--no-prompt",
        "worker",
        "start",
        "--pool",
        pool,
        "--type",
        "process",
    ]
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--name", "compared"],
            env={**place.environ(THEIRS), **more, "PREFECT_API_URL": api or place.prefect.api},
            cwd=place.directory,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    worker = Taker(THEIRS, process, output, place.directory)
    try:
        wait_until(lambda: "started!" in worker.text() or process.poll() is not None, timeout_s=90, what=worker.text)
        assert process.poll() is None, worker.text()
        yield worker
    finally:
        _end(process)


@contextmanager
def flowherd(place: Place, api: str = "", **more: str) -> Iterator[Taker]:
    """flowherd's agent at a pool, its runs in the same Prefect."""
    home = place.directory / "flowherd"
    home.mkdir(exist_ok=True)
    command = CommandLine(home, {**place.environ(OURS), **more})
    rule = f"third={required_installation(PREFECT_3).python};core=3.*"
    words = ("-n", "compared", "--pool", place.pool(OURS), "--api", api or place.prefect.api, "--runtime", rule)
    with background(command, "start", *words, until=READY) as agent:
        yield Taker(OURS, agent.process, agent.output, home / "agents" / "compared" / "runs")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)
