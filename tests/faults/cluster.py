"""The real processes of a session: server, agents and the proxy between them, and which of them can be killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tests.faults.backends import BackendUnderTest
from tests.faults.backends.embedded import Embedded
from tests.faults.evidence import Identity
from tests.faults.program import Program
from tests.faults.proxy import Proxy
from tests.support.leftovers import VARIABLE, kill_carriers


class Cluster:
    """All of it, in the directory `base`."""

    def __init__(self, base: Path, seed: int, agents: int, backend: type[BackendUnderTest] = Embedded) -> None:
        self.base = base
        self.facts = base / "facts"
        self.points = base / "points"
        for directory in (self.facts, self.points):
            directory.mkdir(parents=True)
        self.mark = uuid.uuid4().hex
        self.backend = backend(base, self._environment())
        self.server = self.backend.server
        self.proxy = Proxy(lambda: self.backend.port, seed)
        self.state_dirs = [base / f"agent-{number}" for number in range(agents)]
        self.agents = [
            Program(path.name, self._agent_argv(path), self._environment(), base / f"{path.name}.out")
            for path in self.state_dirs
        ]

    # -- as a whole

    def start(self) -> None:
        """Start everything and register what is to be run."""
        self.backend.start()
        for agent in self.agents:
            agent.start()

    def tend(self) -> None:
        """Start again what is dead."""
        for program in (self.server, *self.agents):
            program.tend()

    def stop(self) -> list[str]:
        """Stop everything in order; return what did not end well."""
        complaints = []
        for program in (*self.agents, self.server):
            code = program.stop()
            if code not in (self.backend.good_ends if program is self.server else (0,)):
                complaints.append(f"{program.name} ended with {code} when it was stopped")
        return complaints

    def clear(self) -> None:
        """Kill everything at once."""
        for program in (*self.agents, self.server):
            program.kill()
        kill_carriers(self.mark)
        self.backend.close()
        self.proxy.close()

    # -- single parts

    def fork_servers(self) -> list[Identity]:
        """Return the fork servers that are children of an agent now."""
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
        """Have the process die that passes `point` for the `count`-th time from now on, unless it is armed already."""
        temporary = self.base / "point.new"
        temporary.write_text(f"{count} 0 0\n")
        with contextlib.suppress(FileExistsError):
            (self.points / point).hardlink_to(temporary)
        temporary.unlink()

    def disarm(self) -> None:
        """Take back what is armed; `fired` still returns the deaths that have happened."""
        for path in self.points.iterdir():
            with _locked(path) as file:
                if int(file.read().split()[0]) > 0:
                    path.unlink()
                    file.seek(0)
                    file.write("0 0 0\n")  # for a process that has opened it and waits for the lock

    def fired(self) -> Iterator[tuple[str, Identity]]:
        """Yield the points at which a process has died since the last look, and the process."""
        for path in list(self.points.iterdir()):
            with _locked(path) as file:
                left, pid, ticks = map(int, file.read().split())
                if left == 0:
                    path.unlink()
            if left == 0:
                yield path.name, Identity(pid, ticks)

    def run_directories(self) -> list[str]:
        """Return the directories of runs that the agents have."""
        return [str(path) for state_dir in self.state_dirs for path in (state_dir / "runs").glob("*")]

    def _agent_argv(self, state_dir: Path) -> list[str]:
        where = self.backend.agent_options(f"http://127.0.0.1:{self.proxy.port}")
        options = ["-n", state_dir.name, "--state-dir", str(state_dir), "-v"]
        return [sys.executable, "-m", "flowherd", "start", *where, *options]

    def _environment(self) -> dict[str, str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "FLOWHERD_"))}
        environment |= {
            "HOME": str(self.base),
            VARIABLE: self.mark,
            "FLOWHERD_FAULTS": str(self.points),
            "FLOWHERD_HOME": str(self.base / "home"),
        }
        return environment | {"FLOWHERD__CLOUD__REQUEST_TIMEOUT": "5", "FLOWHERD__AGENT__GRACE": "2"}


@contextmanager
def _locked(path: Path) -> Iterator[TextIO]:
    """Open an instruction file with the lock that flowherd_runner.contract.faults takes too."""
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


@contextmanager
def running_cluster(
    base: Path, seed: int, agents: int = 1, backend: type[BackendUnderTest] = Embedded
) -> Iterator[Cluster]:
    """Start a cluster; nothing of it is left afterwards."""
    cluster = Cluster(base, seed, agents, backend)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.clear()
