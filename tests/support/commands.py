"""The real command line, as a person or a script uses it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.client.runs import RunView
from flowherd.client.user_client import UserClient
from tests.support.command_server import CommandServer
from tests.support.programs import Program, programs
from tests.support.waiting import wait_until

FLOWHERD = [sys.executable, "-m", "flowherd"]


@dataclass(frozen=True)
class CommandLine:
    """flowherd with one home; a call runs a command to its end, which must succeed unless `code` says otherwise."""

    home: Path
    env: Mapping[str, str] = field(default_factory=dict)
    #: A program and its arguments that becomes flowherd, such as `setpriv`.
    prefix: Sequence[str] = ()

    def environment(self) -> dict[str, str]:
        return {**os.environ, "FLOWHERD_HOME": str(self.home), **self.env}

    def __call__(self, *args: str, code: int | None = 0, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        done = run_command(args, self.environment(), timeout_s, self.prefix)
        assert code is None or done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *args: str) -> Any:
        return json.loads(self(args[0], "--json", *args[1:]).stdout)

    def run(self, flow: str, *args: str) -> str:
        """Start a run without waiting for it; return its id."""
        return str(self.json("run", flow, *args)["id"])

    def runs(self) -> dict[str, dict[str, Any]]:
        return {run["id"]: run for run in self.json("ps", "--all", "--limit", "1000")}

    @contextmanager
    def client(self) -> Iterator[UserClient]:
        """Yield a client for many requests, where a process for each command would take too long."""
        url = json.loads((self.home / "server.json").read_text())["url"]
        client = UserClient(GraphQLTransport(url, self.env.get("FLOWHERD__SERVER__TOKEN", "")))
        yield client
        client.close()

    def wait_for_ends(self, run_ids: list[str], timeout_s: float = 60) -> dict[str, dict[str, Any]]:
        """Wait until all these runs are in a final state; return all runs as `ps` shows them."""
        with self.client() as client:

            def going() -> list[RunView]:
                return [run for run in client.runs.by_ids(run_ids) if not run.finished]

            wait_until(lambda: not going(), timeout_s=timeout_s, what=lambda: f"the ends of {going()}")
        return self.runs()

    def lines(self, run_id: str, stream: str = "stdout") -> list[str]:
        """Return the messages of one stream of a run's log."""
        text = self("logs", run_id, "--json").stdout
        return [line["message"] for line in map(json.loads, text.splitlines()) if line["stream"] == stream]


class CommandServers:
    """The command server of this process, which is started for the first command if `environ` is set."""

    #: Environment of the server; None if each command is to be started as a program.
    environ: Mapping[str, str] | None = None

    def __init__(self) -> None:
        self._server: CommandServer | None = None
        self._lock = threading.Lock()

    def for_environment(self, env: Mapping[str, str]) -> CommandServer | None:
        if self.environ is None:
            return None
        with self._lock:
            if self._server is None:
                self._server = CommandServer(self.environ)
        return self._server if self._server.accepts(env) else None

    def close(self) -> None:
        self.environ = None
        if self._server is not None:
            self._server.close()


command_servers = CommandServers()


def command_words() -> str:
    """Return the words with which a shell runs flowherd in the environment of the tests: commands by the server."""
    server = command_servers.for_environment(os.environ)
    client = Path(__file__).with_name("command_client.py")
    return shlex.join([sys.executable, "-I", "-S", str(client), server.path] if server else FLOWHERD)


def run_command(
    args: Sequence[str], env: Mapping[str, str], timeout_s: float, prefix: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a command of flowherd: forked from the command server if possible, else as a program.

    `prefix` is a program and its arguments that becomes the command, such as `setpriv`.
    """
    server = None if prefix else command_servers.for_environment(env)
    if server is not None:
        return server.run(args, env, timeout_s)
    return subprocess.run(
        [*prefix, *FLOWHERD, *args],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@dataclass
class Background:
    """A command that runs in the background: an agent or a server."""

    process: Program
    output: Path

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 30) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not stop:\n{self.text()}") from None


@contextmanager
def background(command: CommandLine, *args: str, until: str) -> Iterator[Background]:
    """Start a command and wait until it prints `until`; stop it at the end of the block if it still runs."""
    output = (
        command.home.parent / f"{'-'.join(args[:3]).replace('/', '_')}-{len(list(command.home.parent.iterdir()))}.out"
    )
    with output.open("wb") as file:
        process = programs.start("flowherd", args, command.environment(), file, file, command.prefix)
    going = Background(process, output)
    try:
        wait_until(lambda: until in going.text() or process.poll() is not None, timeout_s=30, what=lambda: going.text())
        assert process.poll() is None, going.text()
        yield going
    finally:
        going.stop()


READY = "waiting for flow runs"
