"""What the tests of the client commands have in common: a flow, an agent's requests, a command that keeps running."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from flowherd.backends.graphql.transport import GraphQLTransport
from tests.support.commands import FLOWHERD, CommandLine

HOST = socket.gethostname()


class FakeAgent:
    """Does at the server what an agent does there, as far as client commands see it: a run's states and its log."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport

    def state(self, run_id: str, state: str, message: str = "", **flowherd: Any) -> None:
        query = (
            "mutation($input: set_flow_run_states_input!) { set_flow_run_states(input: $input) { states { status } } }"
        )
        given = {"type": state, "message": message, "context": {"flowherd": flowherd}}
        states = [{"flow_run_id": run_id, "version": None, "state": given}]
        self._transport.execute(query, {"input": {"states": states}})

    def log(
        self,
        run_id: str,
        *lines: tuple[str, str],
        at_us: int = 1_800_000_000_000_000,
        step_us: int = 1,
        level: str = "INFO",
        so_far: bool = False,
    ) -> None:
        """Write lines of (stream, message), `step_us` apart; or text so far of unfinished lines."""
        query = "mutation($input: write_run_logs_input!) { write_run_logs(input: $input) { success } }"
        logs = [
            {
                "flow_run_id": run_id,
                "timestamp": datetime.fromtimestamp((at_us + number * step_us) / 1e6, timezone.utc).isoformat(),
                "name": stream,
                "level": level,
                "message": message,
                "info": {"stream": stream},
                **({"so_far": True} if so_far else {}),
            }
            for number, (stream, message) in enumerate(lines)
        ]
        self._transport.execute(query, {"input": {"logs": logs}})


def register(command: CommandLine, name: str, *options: str) -> dict[str, Any]:
    """Register a flow that runs a command; returns what `flowherd register --json` prints."""
    done = command("register", name, "--json", *options, "--command", "--", "echo", "hello")
    return json.loads(done.stdout)


def shown(command: CommandLine, run_id: str) -> dict[str, Any]:
    """The run as `flowherd ps` shows it."""
    return next(run for run in command.json("ps", "--all") if run["id"] == run_id)


@contextmanager
def running(command: CommandLine, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs during the block; it is killed at the end if it is still running."""
    process = subprocess.Popen(
        [*FLOWHERD, *arguments],
        env=command.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        with process:
            pass


def next_line(process: subprocess.Popen[str]) -> str:
    """The next line that the command prints."""
    assert process.stdout is not None
    return process.stdout.readline()
