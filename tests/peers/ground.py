"""One embedded server, and the programs of one real Prefect that speak with it, in places of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.peers.environments import Peer
from tests.support.dialect import Client
from tests.support.leftovers import carriers, none_left
from tests.support.server import ServerProcess, running_server
from tests.support.waiting import wait_until

#: What the tests' project is called.
PROJECT = "peers"
#: Prefect looks for a cancellation, and sends what it has to log, at these intervals; its own are 15 and 5 seconds.
_QUICK = {"PREFECT__CLOUD__CHECK_CANCELLATION_INTERVAL": "1.0", "PREFECT__CLOUD__LOGGING_HEARTBEAT": "0.5"}
#: Of the caller, these reach no program here.
_FOREIGN = ("PREFECT__", "FLOWHERD__", "FLOWHERD_HOME", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Ground:
    """The server, the Prefect, and a directory that is theirs."""

    peer: Peer
    server: ServerProcess
    place: Path

    @property
    def home(self) -> Path:
        """HOME of all programs here, with Prefect's own directory in it."""
        return self.place / "home"

    @property
    def scratch(self) -> Path:
        """Where flows are stored, and may write."""
        return self.place / "scratch"

    @property
    def client(self) -> Client:
        """A client that is no program of Prefect's, to look at what those did."""
        return Client(self.server)

    def environment(self, **more: str) -> dict[str, str]:
        """For a program of Prefect's, which finds its server by it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        return {
            **inherited,
            **_QUICK,
            # The old agent looks for the command `prefect` there.
            "PATH": f"{self.peer.directory / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "PREFECT__BACKEND": "server",
            "PREFECT__SERVER__ENDPOINT": self.server.url,
            "PEERS_SCRATCH": str(self.scratch),
            **more,
        }

    def prefect(self, *arguments: str, code: int = 0, timeout_s: float = 60, **more: str) -> str:
        """What a command of Prefect's prints; it must end with `code`."""
        return self._run([str(self.peer.prefect), *arguments], code, timeout_s, more)

    def python(self, *arguments: str, code: int = 0, timeout_s: float = 60, **more: str) -> str:
        """What a program prints that runs beside Prefect: its file and arguments, or -c and its text."""
        return self._run([str(self.peer.python), *arguments], code, timeout_s, more)

    def _run(self, command: list[str], code: int, timeout_s: float, more: Mapping[str, str]) -> str:
        done = subprocess.run(
            command,
            env=self.environment(**more),
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
        """The tenant, where the server has none, and the tests' project, by the real client."""
        code = "import sys, prefect; client = prefect.Client()\n" + (
            "tenants = client.graphql('query { tenant { id } }').data.tenant\n"
            "tenants or client.create_tenant(name='peers')\n"
            f"client.create_project({PROJECT!r})"
        )
        self.python("-c", code)


@contextmanager
def on_ground(peer: Peer, place: Path, **settings: Any) -> Iterator[Ground]:
    """A server for this peer's programs; whatever they start is gone at the end of the block."""
    with none_left(), running_server(place / "server", **settings) as server:
        ground = Ground(peer, server, place)
        ground.home.mkdir()
        ground.scratch.mkdir()
        yield ground


@dataclass(frozen=True)
class Going:
    """An agent that takes runs."""

    kind: str
    address: str
    process: subprocess.Popen[bytes]
    output: Path
    #: Where flowherd's agent has its runs' directories; one goes when the run's log and end have been delivered.
    directories: Path

    def poke(self) -> None:
        """Have it look now; a pause between its polls can be ten seconds long."""
        requests.get(f"{self.address}/api/poke", timeout=10)

    def still_has(self, run_id: str) -> bool:
        """Whether a process of this run is there, or something of its log has yet to be sent."""
        if self.kind == "real":
            return bool(carriers(run_id, "PREFECT__CONTEXT__FLOW_RUN_ID"))
        return (self.directories / run_id).exists()

    def text(self) -> str:
        return self.output.read_text(errors="replace")


@contextmanager
def real_agent(ground: Ground, *options: str, label: str = "real", **more: str) -> Iterator[Going]:
    """The LocalAgent of Prefect itself, unmodified."""
    address = f"http://127.0.0.1:{_free_port()}"
    start = ("agent", "local", "start") if ground.peer.new else ("agent", "start", "local")
    command = [str(ground.peer.prefect), *start, "-l", label, "--agent-address", address, *options]
    with _going(label, address, command, ground.environment(**more), ground.place, "Waiting for flow runs") as agent:
        yield agent


@contextmanager
def flowherd_agent(
    ground: Ground, *options: str, label: str = "flowherd", runtimes: Sequence[str] = (), **more: str
) -> Iterator[Going]:
    """flowherd's agent, whose runs of Prefect's flows have the same interpreter unless `runtimes` says otherwise."""
    address = f"http://127.0.0.1:{_free_port()}"
    rules = [word for rule in runtimes or [f"prefect={ground.peer.python}"] for word in ("--runtime", rule)]
    command = [
        sys.executable,
        "-m",
        "flowherd",
        "start",
        "--api",
        ground.server.url,
        "-l",
        label,
        "--on-stop",
        "cancel",
    ]
    command += ["--agent-address", address, *rules, *options]
    environ = ground.environment(FLOWHERD_HOME=str(ground.place / "flowherd"), **more)
    with _going(label, address, command, environ, ground.place, "waiting for flow runs") as agent:
        yield agent


@contextmanager
def _going(
    kind: str, address: str, command: list[str], environ: dict[str, str], place: Path, ready: str
) -> Iterator[Going]:
    directory = place / f"agent-{kind}"
    directory.mkdir()
    output = place / f"agent-{kind}.out"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, env=environ, cwd=directory, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    agent = Going(kind, address, process, output, place / "flowherd" / "agents" / "agent" / "runs")
    try:
        wait_until(lambda: ready in agent.text() or process.poll() is not None, timeout_s=60, what=agent.text)
        assert process.poll() is None, agent.text()
        yield agent
    finally:
        _end(agent)


def _end(agent: Going) -> None:
    # Neither line's LocalAgent handles SIGTERM otherwise than by dying; SIGINT is how a person ends it.
    if agent.process.poll() is None:
        agent.process.send_signal(signal.SIGINT)
    try:
        agent.process.wait(30)
    except subprocess.TimeoutExpired:
        agent.process.kill()
        agent.process.wait()
        raise AssertionError(f"the agent did not end:\n{agent.text()}") from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
