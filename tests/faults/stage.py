"""The real processes of a session: server, agents, the proxy between them, and who can be killed among them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.graphql.user import UserClient
from tests.faults.evidence import Database, Identity
from tests.faults.proxy import Proxy
from tests.support.leftovers import VARIABLE, carriers
from tests.support.waiting import wait_until

FLOW_FILE = Path(__file__).with_name("flow.py")
_READY = re.compile(r"flowherd server ready at http://\S+?:(\d+) ")
_START_S = 40.0
_STOP_S = 30.0


class Program:
    """One program that is started again whenever it has died; what it says is kept in one file."""

    def __init__(self, name: str, argv: list[str], env: Mapping[str, str], output: Path) -> None:
        self.name = name
        self.argv = argv
        self.output = output
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self._not_before_s = 0.0
        self._killed = False
        #: Exit codes that nobody asked for.
        self.surprises: list[int] = []

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start it."""
        self._killed = False
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(self._env)
            )

    def kill(self, away_s: float = 0.0) -> bool:
        """Kill it, and keep it away for a while; whether it was there."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._killed = True
        self._process.kill()
        self._process.wait()
        self._not_before_s = time.monotonic() + away_s
        return True

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal; whether it was there."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._process.send_signal(number)
        return True

    def tend(self) -> None:
        """Start it again when it is dead and its time has come."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None and not self._killed and self._process.returncode != -signal.SIGKILL:
            self.surprises.append(self._process.returncode)
        if time.monotonic() >= self._not_before_s:
            self.start()

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        if self._process is None:
            return 0
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_S)
        finally:
            self._process.kill()
            self._process.wait()


class Stage:
    """All of it, on the directory `base`."""

    def __init__(self, base: Path, seed: int, agents: int) -> None:
        self.base = base
        self.facts = base / "facts"
        self.points = base / "points"
        for directory in (self.facts, self.points):
            directory.mkdir(parents=True)
        self.mark = uuid.uuid4().hex
        self._port = 0
        self.server = Program("server", self._server_argv(), self._environment(), base / "server.out")
        self.proxy = Proxy(lambda: self._port, seed)
        self.database = Database(base / "server" / "flowherd.sqlite")
        self.state_dirs = [base / f"agent-{number}" for number in range(agents)]
        self.agents = [
            Program(path.name, self._agent_argv(path), self._environment(), base / f"{path.name}.out")
            for path in self.state_dirs
        ]
        self._client: UserClient | None = None

    # -- as a whole

    def start(self) -> None:
        """Start everything and register the flows."""
        self.server.start()
        self._port = int(wait_until(self._announced, timeout_s=_START_S, what=self._server_says)[1])
        self.server.argv = self._server_argv()
        for agent in self.agents:
            agent.start()
        project = self.client.ensure_project("kit")
        python = {"type": "Python", "ref": f"{FLOW_FILE}:main"}
        command = {"type": "Command", "argv": [sys.executable, "-S", str(FLOW_FILE)]}
        self.flow_ids = {
            False: self.client.create_flow(project, _document("kit-python", python, {})).id,
            True: self.client.create_flow(project, _document("kit-command", command, {"KIT_KIND": "command"})).id,
        }

    @property
    def client(self) -> UserClient:
        """A person's connection, past the proxy."""
        if self._client is None:
            self._client = UserClient(GraphQLTransport(f"http://127.0.0.1:{self._port}", timeout_s=5.0))
        return self._client

    def tend(self) -> None:
        """Start again what is dead."""
        for program in (self.server, *self.agents):
            program.tend()

    def stop(self) -> list[str]:
        """End everything in good order; what did not end well."""
        complaints = []
        for program in (*self.agents, self.server):
            code = program.stop()
            if code != 0:
                complaints.append(f"{program.name} ended with {code} when it was asked to end")
        return complaints

    def clear(self) -> None:
        """End everything at once, whatever it is."""
        for program in (*self.agents, self.server):
            program.kill()
        deadline_s = time.monotonic() + 10
        while (left := carriers(self.mark)) and time.monotonic() < deadline_s:
            for line in left:
                try:
                    os.kill(int(line.split()[0]), signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)
        if self._client is not None:
            self._client.close()
        self.proxy.close()

    # -- single parts

    def fork_servers(self) -> list[Identity]:
        """Those that are children of an agent now."""
        parents = {agent.pid for agent in self.agents} - {None}
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                is_one = int(fields[1]) in parents and b"forkserver" in (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if is_one:
                found.append(Identity(int(entry.name), int(fields[19])))
        return found

    def arm(self, point: str, count: int = 1) -> None:
        """Whoever passes `point` for the `count`-th time from now on dies there, unless somebody is to die already."""
        temporary = self.base / "point.new"
        temporary.write_text(f"{count} 0 0\n")
        with contextlib.suppress(FileExistsError):
            (self.points / point).hardlink_to(temporary)
        temporary.unlink()

    def disarm(self) -> None:
        """Nobody dies at a point any more; who has died already is told by `fired`."""
        for path in self.points.iterdir():
            with _locked(path) as file:
                if int(file.read().split()[0]) > 0:
                    path.unlink()
                    file.seek(0)
                    file.write("0 0 0\n")  # for who has opened it and waits for the lock

    def fired(self) -> Iterator[tuple[str, Identity]]:
        """Points at which somebody has died since the last look, and who."""
        for path in list(self.points.iterdir()):
            with _locked(path) as file:
                left, pid, ticks = map(int, file.read().split())
                if left == 0:
                    path.unlink()
            if left == 0:
                yield path.name, Identity(pid, ticks)

    def run_directories(self) -> list[str]:
        """What the agents have kept of runs."""
        return [str(path) for state_dir in self.state_dirs for path in (state_dir / "runs").iterdir()]

    def _announced(self) -> re.Match[str] | None:
        return _READY.search(self._server_says())

    def _server_says(self) -> str:
        return self.server.output.read_text() if self.server.output.exists() else ""

    def _server_argv(self) -> list[str]:
        where = ["--port", str(self._port), "--data-dir", str(self.base / "server"), "--home", str(self.base / "home")]
        return [sys.executable, "-m", "flowherd.server", *where]

    def _agent_argv(self, state_dir: Path) -> list[str]:
        options = ["-n", state_dir.name, "--no-hostname-label", "--state-dir", str(state_dir), "-v"]
        return [sys.executable, "-m", "flowherd", "start", "-a", f"http://127.0.0.1:{self.proxy.port}", *options]

    def _environment(self) -> dict[str, str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT__", "FLOWHERD_"))}
        environment |= {
            "HOME": str(self.base),
            VARIABLE: self.mark,
            "FLOWHERD_FAULTS": str(self.points),
            "FLOWHERD_HOME": str(self.base / "home"),
        }
        return environment | {"FLOWHERD__CLOUD__REQUEST_TIMEOUT": "5", "FLOWHERD__AGENT__GRACE": "2"}


@contextmanager
def _locked(path: Path) -> Iterator[TextIO]:
    """The instruction file, while nobody else reads or writes it: flowherd.faults takes the same lock."""
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


@contextmanager
def stage(base: Path, seed: int, agents: int = 1) -> Iterator[Stage]:
    """A stage that is up; nothing of it is left afterwards."""
    built = Stage(base, seed, agents)
    try:
        built.start()
        yield built
    finally:
        built.clear()


def _document(name: str, storage: Mapping[str, object], env: Mapping[str, str]) -> dict[str, object]:
    return {
        "name": name,
        "type": "flowherd.Flow",
        "schedule": None,
        "parameters": [],
        "tasks": [],
        "edges": [],
        "reference_tasks": [],
        "storage": dict(storage),
        "run_config": {"type": "LocalRun", "env": dict(env)},
    }
