"""Agents as users of Prefect 0.13 wrote them, with one import changed: their flow runs are carried out by Prefect.

The programs are in programs/agents/. With --full they run with Prefect's own class, too: the same must come of it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from flowherd.backends.memory import MemoryBackend
from flowherd.states import RunState
from tests.peers.environments import PREFECT_0, required_installation
from tests.peers.prefect1.workspace import PROJECT, Workspace, running_workspace
from tests.support.agents import going, wait_for_end
from tests.support.container_engine import ContainerEngine, container_engine
from tests.support.debian_programs import required_program
from tests.support.ports import free_port
from tests.support.ssh_server import SSHServer, ssh_server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PROGRAMS = Path(__file__).parent / "programs" / "agents"
#: The import of the base class, and what it is changed to.
IMPORTS = {
    "from prefect.agent import Agent": "from flowherd import Agent",
    "from prefect.agent.local import LocalAgent": "from flowherd import LocalAgent",
}
IMAGE = "registry.example/flows:0.13.1"


def program_for_flowherd(name: str, directory: Path) -> Path:
    """Write the program with its import changed and nothing else, and return its path."""
    text = (PROGRAMS / name).read_text()
    (imported,) = [line for line in text.splitlines() if "import" in line and "prefect" in line]
    changed = directory / name
    changed.write_text(text.replace(imported, IMPORTS[imported]))
    return changed


def loaded(name: str, directory: Path) -> ModuleType:
    """Import such a program into this process."""
    path = program_for_flowherd(name, directory)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an agent's flow runs go, and how the agent is started."""

    program: str
    arguments: Sequence[str]
    #: Beginning of what the agent says about a deployment.
    deployed: str
    more: Mapping[str, str]


@dataclass(frozen=True)
class Elsewhere:
    """A server with a flow, another host, a batch queue and a container engine."""

    workspace: Workspace
    flow_id: str
    ssh: SSHServer
    engine: ContainerEngine
    queue: Mapping[str, str]

    def places(self) -> dict[str, Place]:
        prefect = str(self.workspace.installation.prefect)
        return {
            "ssh": Place(
                program="ssh_agent.py",
                arguments=[self.ssh.host, prefect, "ssh", *self.ssh.options],
                deployed=f"Host: {self.ssh.host} PID: ",
                more={},
            ),
            "queue": Place(
                program="batch_queue_agent.py", arguments=[prefect, "queue"], deployed="Job: ", more=self.queue
            ),
            "container": Place(
                program="container_agent.py",
                arguments=[IMAGE, self.engine.address, "container"],
                deployed="Container ID: ",
                more={},
            ),
        }

    def start_run(self, label: str) -> str:
        return self.workspace.client.create_run(self.flow_id, labels=[label, os.uname().nodename])

    def run_agent(self, python: Path, program: Path, place: Place, label: str) -> str:
        """Run the agent for its two polls and return what it printed."""
        variables = {"HOME": str(self.workspace.home), "WHERE": label}
        api = self.workspace.server.url
        more = {**place.more, "PREFECT__CLOUD__API": api, "PREFECT__CLOUD__AGENT__ENV_VARS": repr(variables)}
        return self.workspace.program(python, program, *place.arguments, more=more)

    def check(self, run_id: str, deployed: str, where: str) -> None:
        """Check that the flow run has ended in Success where the agent has put it."""
        client = self.workspace.client
        wait_until(lambda: client.run(run_id)["state"] in ("Success", "Failed"), timeout_s=60)
        found = client.run(run_id, "state state_message logs { message }")
        assert found["state"] == "Success", found
        # Lines may come after the state: those of the engine, and those that an agent of this host forwards.
        self.wait_for_line(run_id, f"Submitted for execution: {deployed}")
        self.wait_for_line(run_id, f"run {run_id} in {where}")

    def wait_for_line(self, run_id: str, beginning: str) -> None:
        wait_until(
            lambda: any(message.startswith(beginning) for message in self.messages(run_id)),
            what=lambda: f"{beginning!r} in {self.messages(run_id)}",
        )

    def messages(self, run_id: str) -> list[str]:
        return [row["message"] for row in self.workspace.client.run(run_id, "logs { message }")["logs"]]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    required_program("tsp", "task-spooler")
    installation = required_installation(PREFECT_0)
    directory = tmp_path_factory.mktemp("elsewhere")
    with ExitStack() as stack:
        workspace = stack.enter_context(running_workspace(installation, directory))
        workspace.make_project()
        printed = workspace.python(str(PROGRAMS.parent / "elsewhere_flow.py"), PROJECT)
        flow_id = next(line.split()[1] for line in printed.splitlines() if line.startswith("flow "))
        path = f"{installation.directory / 'bin'}{os.pathsep}{os.environ['PATH']}"
        queue = {"TS_SOCKET": str(directory / "queue.sock"), "TMPDIR": str(directory)}
        subprocess.run(["tsp"], env={**os.environ, **queue}, check=True, stdout=subprocess.DEVNULL)  # starts it
        stack.callback(subprocess.run, ["tsp", "-K"], env={**os.environ, **queue}, check=True)
        yield Elsewhere(
            workspace,
            flow_id,
            stack.enter_context(ssh_server(directory / "ssh")),
            stack.enter_context(container_engine(directory / "engine", {IMAGE: {"PATH": path}})),
            queue,
        )


@pytest.mark.parametrize("base", ["flowherd", pytest.param("prefect", marks=pytest.mark.full)])
def test_the_same_agents_put_flow_runs_on_a_host_into_a_queue_and_into_containers(
    elsewhere: Elsewhere, tmp_path: Path, base: str
) -> None:
    """All three at once: each takes the run with its label, deploys it, and ends; the run succeeds where it was put."""
    places = elsewhere.places()
    runs = {label: elsewhere.start_run(label) for label in places}
    for label, place in places.items():
        if base == "flowherd":
            program, python = program_for_flowherd(place.program, tmp_path), Path(sys.executable)
        else:
            program, python = PROGRAMS / place.program, elsewhere.workspace.installation.python
        elsewhere.run_agent(python, program, place, label)
    for label, place in places.items():
        elsewhere.check(runs[label], place.deployed, f"{label}, NOT_FOR_RUNS False")


@pytest.mark.parametrize("base", ["flowherd", pytest.param("prefect", marks=pytest.mark.full)])
def test_a_local_agent_gives_its_runs_what_populate_env_vars_returns(
    elsewhere: Elsewhere, tmp_path: Path, base: str, clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = elsewhere.workspace
    labels = ["local", os.uname().nodename]
    run_id = elsewhere.start_run("local")
    with ExitStack() as stack:
        if base == "flowherd":
            runtime = f'[[runtimes]]\nname = "peer"\ninterpreter = "{workspace.installation.directory}"\n'
            clean_environment.mkdir()
            (clean_environment / "config.toml").write_text(runtime)
            monkeypatch.setenv("PREFECT__CLOUD__API", workspace.server.url)
            team_agent = loaded("local_agent.py", tmp_path).TeamAgent
            variables = {"HOME": str(workspace.home), "NOT_FOR_RUNS": "1"}
            stack.enter_context(going(team_agent(labels=labels, env_vars=variables)))
        else:
            workspace.program(workspace.installation.python, PROGRAMS / "local_agent.py", *labels)
        elsewhere.check(run_id, "PID: ", "a process for elsewhere, NOT_FOR_RUNS False")


def test_what_fails_elsewhere_fails_the_run_with_its_text(elsewhere: Elsewhere, tmp_path: Path) -> None:
    backend = MemoryBackend()
    runs = {name: backend.add_run({"type": "Local"}, labels=[name]) for name in ("host", "image")}
    runs["storage"] = backend.add_run({"type": "Docker"}, labels=["host"])
    away = ["-p", str(free_port()), *elsewhere.ssh.options]  # of an option that is given twice, the first counts
    ssh_agent = loaded("ssh_agent.py", tmp_path).SSHAgent
    container_agent = loaded("container_agent.py", tmp_path).ContainerAgent
    with (
        going(ssh_agent(elsewhere.ssh.host, options=away, backend=backend, labels=["host"])),
        going(container_agent("other/image:1", elsewhere.engine.address, backend=backend, labels=["image"])),
    ):
        for run_id in runs.values():
            assert wait_for_end(backend, run_id) is RunState.FAILED
    assert "ssh to" in backend.message(runs["host"])
    assert "refused" in backend.message(runs["host"])
    assert "No such image: other/image:1" in backend.message(runs["image"])
    assert backend.message(runs["storage"]) == "Unsupported Storage type"
    for run_id in runs.values():
        assert backend.log(run_id)[-1] == backend.message(run_id)
