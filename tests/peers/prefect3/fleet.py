"""A fleet: agents of several hosts at one work pool of one server, the runs that they share, and the ends of all.

The hosts are home directories on one machine. What the runs did is read from outside: each start leaves a line in a
file, and the server has their states and their logs.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowherd_runner.contract.files import EXIT_FILE, STARTED_FILE
from tests.peers.environments import PREFECT_3, required_installation
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.peers.prefect3.programs.fleet_job import LINES
from tests.support.commands import READY, Background, CommandLine, background
from tests.support.waiting import wait_until

_PROGRAMS = Path(__file__).with_name("programs")
_TERMINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
#: Runs made by one request: the server makes them in one transaction, which takes long on a busy machine.
_MADE_AT_ONCE = 25
#: The server's limit is 200 rows an answer.
_RUNS_AT_ONCE, _ROWS_AT_ONCE = 100, 200


class Host:
    """One host and its agent; the host's files outlive the agent."""

    def __init__(self, name: str, directory: Path, limit: int, pool: str, api: str) -> None:
        self.name = name
        self._pool = pool
        self._limit = limit
        directory.mkdir(parents=True)
        self.command = CommandLine(
            directory / "home", {"HOME": str(directory), "PREFECT_API_URL": api, "DO_NOT_TRACK": "1"}
        )
        self._stack = ExitStack()
        self._agents: list[Background] = []

    def start(self) -> None:
        """Start its agent and wait until it is ready."""
        runtime = f"third={required_installation(PREFECT_3).python};core=3.*"
        options = ("--pool", self._pool, "-n", self.name, "--limit", str(self._limit), "--runtime", runtime)
        self._agents.append(self._stack.enter_context(background(self.command, "start", *options, until=READY)))

    def kill(self) -> None:
        """Kill its agent by SIGKILL, as a crash or the kernel would."""
        self._agents[-1].kill()

    def drain(self) -> None:
        """Drain its agent, as a person does before maintenance, without waiting."""
        self.command("drain", "-n", self.name, "--deadline", "10m")

    def exit_code(self, timeout_s: float) -> int:
        """Wait until the agent has ended by itself; return its exit code."""
        return self._agents[-1].process.wait(timeout_s)

    def close(self) -> None:
        self._stack.close()

    @property
    def text(self) -> str:
        """What the agent that was started last has printed."""
        return self._agents[-1].text()

    def directories(self) -> list[Path]:
        """Return the directories of its runs: the agent removes each when all of the run is delivered."""
        runs = self.command.home / "agents" / self.name / "runs"
        return list(runs.iterdir()) if runs.exists() else []

    def going(self) -> list[str]:
        """Return the runs whose processes are alive."""
        return [d.name for d in self.directories() if (d / STARTED_FILE).exists() and not (d / EXIT_FILE).exists()]


@dataclass
class Account:
    """What became of the runs: each list should be empty."""

    runs: int
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    #: Runs that were not once each Scheduled, Pending, Running and Completed, with their states.
    irregular: dict[str, list[str]] = field(default_factory=dict)
    lines: int = 0
    lines_lost: list[str] = field(default_factory=list)
    lines_doubled: list[str] = field(default_factory=list)
    #: Number of starts by agent.
    spread: Counter[str] = field(default_factory=Counter)


class Fleet:
    """The hosts, and the runs that were created."""

    def __init__(self, prefect: PrefectServer, directory: Path, hosts: int, limit: int) -> None:
        self.prefect = prefect
        self.directory = directory
        self.pool = f"of {directory.name}"
        names = [f"host-{number}" for number in range(1, hosts + 1)]
        self.hosts = [Host(name, directory / name, limit, self.pool, prefect.api) for name in names]
        self.runs: list[str] = []
        #: Patient runs go on until this file exists.
        self.release = directory / "release"
        self._ask_s = 0.0

    def start(self) -> None:
        """Start all agents at once."""
        with ThreadPoolExecutor() as executor:
            list(executor.map(Host.start, self.hosts))

    def create(self, count: int, *, engine: bool, seconds: float = 0.3, patient: bool = False) -> list[str]:
        """Create runs, of Prefect's engine or of a program without it."""
        deployment = self._deployment(engine, seconds, patient)
        made: list[str] = []
        while len(made) < count:
            asked = [{"state": {"type": "SCHEDULED"}}] * min(_MADE_AT_ONCE, count - len(made))
            answer = self.prefect.ask("POST", f"/deployments/{deployment}/create_flow_run/bulk", asked)
            made += [result["flow_run_id"] for result in answer["results"]]
        self.runs += made
        return made

    def release_patient(self) -> None:
        """Let patient runs end."""
        self.release.touch()

    def starts(self) -> list[tuple[str, str, float]]:
        """Return run, agent and time of each start of user code, in order."""
        path = self.directory / "starts"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(run_id, worker.partition("@")[0], float(at_)) for run_id, worker, at_ in rows]

    def count(self, *types: str) -> int:
        asked = {"flow_runs": {"state": {"type": {"any_": list(types)}}, "id": {"any_": self.runs}}}
        return int(self.prefect.ask("POST", "/flow_runs/count", asked))

    def wait_for_ends(self, timeout_s: float) -> None:
        """Wait until every run has ended and the agents have delivered all of it."""
        wait_until(lambda: self._ended(), timeout_s=timeout_s, what=self.story)

    def account(self) -> Account:
        """Find out what became of each run, from outside."""
        starts = self.starts()
        found = Account(runs=len(self.runs), spread=Counter(agent for _, agent, _ in starts))
        times = Counter(run_id for run_id, _, _ in starts)
        found.lost = [run_id for run_id in self.runs if not times[run_id]]
        found.doubled = [run_id for run_id in times if times[run_id] > 1]
        counted = {row["id"]: row["run_count"] for row in self._rows()}
        for run_id in self.runs:
            states = self.states(run_id)
            if states != ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED"] or counted[run_id] != 1:
                found.irregular[run_id] = states
        self._account_of_lines(found)
        return found

    def states(self, run_id: str) -> list[str]:
        """Return the types of its states in order, without Late: a scheduled run that has waited for long."""
        rows = self.prefect.ask("GET", f"/flow_run_states/?flow_run_id={run_id}")
        rows.sort(key=lambda row: str(row["timestamp"]))
        return [row["type"] for row in rows if row["name"] != "Late"]

    def story(self) -> str:
        ended, left = self.count(*_TERMINAL), {host.name: len(host.directories()) for host in self.hosts}
        return f"{ended} of {len(self.runs)} ended, {left} not all delivered\n" + "\n".join(
            h.text[-3000:] for h in self.hosts
        )

    def close(self) -> None:
        self.release_patient()
        with ThreadPoolExecutor() as executor:
            list(executor.map(Host.close, self.hosts))

    def _ended(self) -> bool:
        # The server is asked last and once a second: it is busy with the runs.
        now_s = time.monotonic()
        if any(host.directories() for host in self.hosts) or now_s < self._ask_s:
            return False
        self._ask_s = now_s + 1.0
        return self.count(*_TERMINAL) == len(self.runs)

    def _account_of_lines(self, found: Account) -> None:
        messages_of: dict[str, Counter[str]] = {run_id: Counter() for run_id in self.runs}
        for start in range(0, len(self.runs), _RUNS_AT_ONCE):
            some = {"logs": {"flow_run_id": {"any_": self.runs[start : start + _RUNS_AT_ONCE]}}}
            for row in self._pages("/logs/filter", {**some, "sort": "TIMESTAMP_ASC"}):
                messages_of[row["flow_run_id"]][row["message"]] += 1
        for run_id, messages in messages_of.items():
            for text in (f"line {number}" for number in range(LINES)):
                found.lines += messages[text]
                if messages[text] != 1:
                    (found.lines_doubled if messages[text] else found.lines_lost).append(f"{run_id} {text}")

    def _rows(self) -> Iterator[Any]:
        for start in range(0, len(self.runs), _RUNS_AT_ONCE):
            asked = {"flow_runs": {"id": {"any_": self.runs[start : start + _RUNS_AT_ONCE]}}}
            yield from self.prefect.ask("POST", "/flow_runs/filter", asked)

    def _pages(self, path: str, asked: dict[str, Any]) -> Iterator[Any]:
        offset = 0
        while rows := self.prefect.ask("POST", path, {**asked, "limit": _ROWS_AT_ONCE, "offset": offset}):
            yield from rows
            offset += len(rows)

    def _deployment(self, engine: bool, seconds: float, patient: bool) -> str:
        name = f"{'engine' if engine else 'program'} {seconds} {'patient' if patient else 'brisk'}"
        release = str(self.release) if patient else ""
        if not engine:
            words = [
                sys.executable,
                "-I",
                "-S",
                str(_PROGRAMS / "fleet_job.py"),
                str(self.directory),
                str(seconds),
                release,
            ]
            variables = {"command": shlex.join(word for word in words if word)}
            return self.prefect.add_deployment(self.pool, name, job_variables=variables)
        steps = [{"prefect.deployments.steps.set_working_directory": {"directory": str(_PROGRAMS)}}]
        given = {"directory": str(self.directory), "seconds": seconds, "release": release}
        return self.prefect.add_deployment(
            self.pool, name, entrypoint="fleet_flow.py:member", pull_steps=steps, parameters=given
        )


@contextmanager
def running_fleet(prefect: PrefectServer, directory: Path, hosts: int = 3, limit: int = 6) -> Iterator[Fleet]:
    """Start all agents; none is left at the end of the block."""
    fleet = Fleet(prefect, directory, hosts, limit)
    prefect.add_pool(fleet.pool)
    try:
        fleet.start()
        yield fleet
    finally:
        fleet.close()
