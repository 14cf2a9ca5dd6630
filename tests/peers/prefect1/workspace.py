"""One embedded server, and the programs of one real Prefect 0.x or 1.x that use it, with directories of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers.agent_processes import OURS, THEIRS, AgentProcess, has_processes, has_run_directory, running_agent
from tests.peers.environments import Installation
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.ports import free_port
from tests.support.server import ServerProcess, running_server

#: Name of the tests' project.
PROJECT = "peers"
#: Intervals at which Prefect looks for a cancellation and sends its log, seconds; its defaults are 15 and 5.
_SHORT_INTERVALS = {"PREFECT__CLOUD__CHECK_CANCELLATION_INTERVAL": "1.0", "PREFECT__CLOUD__LOGGING_HEARTBEAT": "0.5"}
#: Beginnings of the names of the caller's variables that no program here is given.
_FOREIGN = ("PREFECT__", "FLOWHERD__", "FLOWHERD_HOME", "PYTHONPATH", "VIRTUAL_ENV")

_NOTHING: Mapping[str, str] = {}


def inherited_environment() -> dict[str, str]:
    """Return the environment of the tests without anyone's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}


@dataclass(frozen=True)
class Workspace:
    """The server, the Prefect, and a directory that is theirs."""

    installation: Installation
    server: ServerProcess
    directory: Path

    @property
    def home(self) -> Path:
        """HOME of all programs here, with Prefect's own directory in it."""
        return self.directory / "home"

    @property
    def scratch(self) -> Path:
        """Where flows are stored, and may write."""
        return self.directory / "scratch"

    @property
    def client(self) -> Client:
        """A client that is not Prefect's, to look at what Prefect's programs have done."""
        return Client(self.server)

    def environment(self, more: Mapping[str, str] = _NOTHING) -> dict[str, str]:
        """Return the environment of a program of Prefect's, by which it finds its server, with `more` variables."""
        return {
            **inherited_environment(),
            **_SHORT_INTERVALS,
            # The agent of 0.x looks for the command `prefect` there.
            "PATH": f"{self.installation.directory / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "PREFECT__BACKEND": "server",
            "PREFECT__SERVER__ENDPOINT": self.server.url,
            "PEERS_SCRATCH": str(self.scratch),
            **more,
        }

    def prefect(self, *arguments: str, more: Mapping[str, str] = _NOTHING, code: int = 0, timeout_s: float = 60) -> str:
        """Run a command of Prefect's, which must end with `code`; return what it prints."""
        return self._run([str(self.installation.prefect), *arguments], code, timeout_s, more)

    def python(self, *arguments: str, more: Mapping[str, str] = _NOTHING, code: int = 0, timeout_s: float = 60) -> str:
        """Run a program in Prefect's environment, by its file and arguments or by -c; return what it prints."""
        return self._run([str(self.installation.python), *arguments], code, timeout_s, more)

    def program(self, python: Path, program: Path, *arguments: str, more: Mapping[str, str] = _NOTHING) -> str:
        """Run a program by this interpreter, in Prefect's environment; return what it prints."""
        return self._run([str(python), str(program), *arguments], 0, 60, more)

    def _run(self, command: list[str], code: int, timeout_s: float, more: Mapping[str, str]) -> str:
        done = subprocess.run(
            command,
            env=self.environment(more),
            cwd=self.scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def make_project(self) -> None:
        """Make the tests' project, as the real client does: its own start would take most of the time."""
        self.client.do("create_project", name=PROJECT)


@contextmanager
def running_workspace(installation: Installation, directory: Path, **settings: Any) -> Iterator[Workspace]:
    """Start a server for this Prefect's programs; what they start has ended at the end of the block."""
    with none_left(), running_server(directory / "server", **settings) as server:
        workspace = Workspace(installation, server, directory)
        workspace.home.mkdir()
        workspace.scratch.mkdir()
        yield workspace


@contextmanager
def local_agent(
    workspace: Workspace, *options: str, label: str = THEIRS, more: Mapping[str, str] = _NOTHING
) -> Iterator[AgentProcess]:
    """Run Prefect's own LocalAgent, unmodified."""
    address = f"http://127.0.0.1:{free_port()}"
    start = ("agent", "local", "start") if workspace.installation.is_prefect_1 else ("agent", "start", "local")
    command = [str(workspace.installation.prefect), *start, "-l", label, "--agent-address", address, *options]
    with running_agent(
        label,
        command,
        workspace.environment(more),
        _agent_directory(workspace, label),
        workspace.directory / f"agent-{label}.out",
        ready="Waiting for flow runs",
        still_has=has_processes("PREFECT__CONTEXT__FLOW_RUN_ID"),
        address=address,
    ) as agent:
        yield agent


@contextmanager
def flowherd_agent(
    workspace: Workspace,
    *options: str,
    label: str = OURS,
    runtimes: Sequence[str] = (),
    more: Mapping[str, str] = _NOTHING,
) -> Iterator[AgentProcess]:
    """Run flowherd's agent; its runs use the same Prefect unless `runtimes` says otherwise."""
    address = f"http://127.0.0.1:{free_port()}"
    rules = runtimes or [f"prefect={workspace.installation.python}"]
    command = [sys.executable, "-m", "flowherd", "start", "--api", workspace.server.url, "-l", label]
    command += ["--on-stop", "cancel", "--agent-address", address]
    command += [word for rule in rules for word in ("--runtime", rule)]
    home = workspace.directory / "flowherd"
    with running_agent(
        label,
        [*command, *options],
        workspace.environment({"FLOWHERD_HOME": str(home), **more}),
        _agent_directory(workspace, label),
        workspace.directory / f"agent-{label}.out",
        ready="waiting for flow runs",
        still_has=has_run_directory(home / "agents" / "agent" / "runs"),
        address=address,
    ) as agent:
        yield agent


def _agent_directory(workspace: Workspace, label: str) -> Path:
    """Make the working directory of an agent."""
    directory = workspace.directory / f"agent-{label}"
    directory.mkdir()
    return directory
