"""flowherd as a user has it: `flowherd start`, with its server, in a home of its own, and a client beside it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType

import psutil
from benchmarks.measuring import FirstLines, cpu_s, cpu_with_ended_children_s
from benchmarks.queue_peers import Times
from tests.support.commands import FLOWHERD, READY, CommandLine, background
from tests.support.waiting import wait_until

from flowherd.cli.runs.follow import follow_run
from flowherd.client.user_client import UserClient
from flowherd.config import load_settings
from flowherd.states import FINISHED, RunState

DEADLINE_S = 600.0
_UNFINISHED = {state.value for state in RunState if state not in FINISHED}
FLOWS = """
import os, time
def first_line():
    fd = os.open({fifo!r}, os.O_WRONLY)
    os.write(fd, b"%r\\n" % time.monotonic())
    os.close(fd)
def trivial(): pass
def sleeping(): time.sleep(36000)
def many_lines(lines):
    for number in range(lines):
        print("line %d of the log, with some text in it as such lines have" % number)
def ticks(times):
    for _ in range(times):
        time.sleep(0.05)
        print(time.monotonic(), flush=True)
"""


class OwnRuns:
    """An agent with its server, the flows of the benchmarks, and a connection to the server that stays open."""

    def __init__(
        self, command: CommandLine, client: UserClient, agent_pid: int, lines: FirstLines, flows: Path
    ) -> None:
        self.command = command
        self.client = client
        self.agent_pid = agent_pid
        self.server_pid: int = json.loads((command.home / "server.json").read_text())["pid"]
        self._lines = lines
        self._loaded = load_settings(environ={"FLOWHERD_HOME": str(command.home), "HOME": str(command.home)})
        self._flows = flows
        self._commands = {
            "command_line": ["sh", "-c", f"echo - > {lines.path}"],
            "command_sleeping": ["sleep", "36000"],
        }
        self._flow_ids: dict[str, str] = {}

    def once(self, flow: str) -> Times:
        """Return the times of one run that writes its first line, waited for as `flowherd run --wait` waits."""
        run_id = self.create(flow)
        answered = time.monotonic()
        self._wait_for(run_id)
        result = time.monotonic()
        return Times(1000 * (self._lines.take() - answered), 1000 * (result - answered))

    def burst(self, count: int) -> float:
        """Return the trivial runs a second, from the first creation to the last end at the server."""
        self.flow_id("trivial")
        began = time.monotonic()
        for _ in range(count):
            self.create("trivial")
        self.wait_for_all()
        return count / (time.monotonic() - began)

    def wait_for_all(self) -> None:
        """Wait until no run is waiting or going."""
        deadline = time.monotonic() + DEADLINE_S
        while self.client.runs.newest(states=_UNFINISHED, limit=1):
            assert time.monotonic() < deadline, "not all runs have ended"
            time.sleep(0.02)

    def spent_s(self) -> dict[str, float]:
        """Return the CPU time so far of the server, of the agent, and of fork servers with the runs that have ended."""
        below = [each.pid for each in psutil.Process(self.agent_pid).children() if each.pid != self.server_pid]
        return {
            "server": cpu_s(self.server_pid),
            "agent": cpu_s(self.agent_pid),
            "fork server, runner and flow": cpu_with_ended_children_s(below),
        }

    def log_lines(self, lines: int) -> float:
        """Return the seconds from the creation of a run that prints so many lines until the server has all of them."""
        self.flow_id("many_lines")
        began = time.monotonic()
        # The last line is stored before the end. To ask meanwhile would be counted as work of the server.
        self._wait_for(self.create("many_lines", lines=lines))
        return time.monotonic() - began

    def _wait_for(self, run_id: str) -> None:
        """Wait for the end of a run as `flowherd run --wait` does."""
        ended = follow_run(self.client, self._loaded, run_id, None)
        assert ended is not None and ended.successful, ended

    def follow_delays(self, times: int) -> list[float]:
        """Return how long after a line was printed `flowherd logs -f` shows it, milliseconds."""
        run_id = self.create("ticks", times=times)
        reader = subprocess.Popen(
            [*FLOWHERD, "logs", "-f", run_id],
            env=self.command.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert reader.stdout is not None
        delays = [1000 * (time.monotonic() - printed) for printed in _numbers(reader.stdout)]
        reader.wait()
        return delays[times // 4 :]  # the first ones were printed before the reader was there

    def sleeping(self, flow: str, count: int) -> dict[str, int]:
        """Start sleeping runs; return the runners' pids by run once all are going."""
        ids = {self.create(flow) for _ in range(count)}

        def runners() -> dict[str, int]:
            places = self.command.home.glob("agents/*/runs/*/started")
            return {
                place.parent.name: json.loads(place.read_text())["pid"] for place in places if place.parent.name in ids
            }

        wait_until(lambda: len(runners()) == count, timeout_s=DEADLINE_S)
        return runners()

    def cancel_all(self) -> None:
        """Cancel what is going, and wait for it."""
        for run in self.client.runs.newest(states=_UNFINISHED, limit=10_000):
            self.client.runs.cancel(run.id)
        self.wait_for_all()

    def create(self, flow: str, **parameters: int) -> str:
        """Create a run and return its id."""
        return self.client.runs.create(self.flow_id(flow), parameters=parameters)

    def flow_id(self, name: str) -> str:
        """Return the id of one of FLOWS or of the commands, which is registered when it is first used."""
        if name not in self._flow_ids:
            code = ["--python", f"{self._flows}:{name}"]
            what = ["--command", "--", *self._commands[name]] if name in self._commands else code
            self._flow_ids[name] = self.command.json("register", name, *what)["id"]
        return self._flow_ids[name]


def _numbers(lines: Iterator[str]) -> Iterator[float]:
    for line in lines:
        word = line.split()[-1] if line.split() else ""
        if word.replace(".", "", 1).isdigit():
            yield float(word)


@contextmanager
def own_runs(
    place: Path, lines: FirstLines, *options: str, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[OwnRuns]:
    """Start an agent with these options of `flowherd start` and these variables, and its server."""
    home = place / "home"
    home.mkdir(parents=True, mode=0o700)
    flows = place / "flows.py"
    flows.write_text(FLOWS.format(fifo=str(lines.path)))
    command = CommandLine(home, {**environment, "FLOWHERD__SERVER__BIND_PORT": "0"})
    with ExitStack() as stack:
        agent = stack.enter_context(background(command, "start", *options, until=READY))
        client = stack.enter_context(command.client())
        stand = OwnRuns(command, client, agent.process.pid, lines, flows)
        stand.once("first_line")  # bytecode and caches
        yield stand
