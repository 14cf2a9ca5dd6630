"""A server that is started on an older copy of its database learns from its agents what has happened since.

Real processes throughout: a server, two agents, and flows that count their own starts.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import READY, Background, CommandLine, background
from tests.support.dialect import Client
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

#: For the reports of two agents that look for the server every 2 seconds.
GRACE_S = 4.0
SCRIPT = """
id=$FLOWHERD_FLOW_RUN_ID
echo started >> {place}/starts-$id
echo line 1
while [ ! -e {place}/go-$id -a ! -e {place}/stop ]; do sleep 0.05; done
echo line 2
"""


@dataclass
class World:
    """A server with a backup, and what two agents do at it."""

    place: Path
    stack: ExitStack
    flow: str = ""
    agents: dict[str, Background] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = {"restore_grace": GRACE_S, "heartbeat_timeout": GRACE_S, "zombie_interval": 1}
        self.server = ServerProcess(self.place / "data", **settings)
        self.server.start()
        self.stack.callback(lambda: self.server._process and self.server.stop())
        self.stack.callback((self.place / "stop").touch)
        self.client = Client(self.server)
        script = SCRIPT.format(place=self.place)
        self.flow = self.client.flow(storage={"type": "Command", "argv": ["sh", "-c", script]})

    @property
    def database(self) -> Path:
        return self.place / "data" / "flowherd.sqlite"

    def start_agent(self, name: str, *labels: str) -> None:
        env = {"PREFECT__CLOUD__API": self.server.url, "PREFECT__CLOUD__HEARTBEAT_INTERVAL": "0.5"}
        command = CommandLine(self.place / "home", env)
        options = [part for label in labels for part in ("-l", label)]
        agent = background(command, "start", "-n", name, *options, "--no-hostname-label", until=READY)
        self.agents[name] = self.stack.enter_context(agent)

    def create(self, label: str) -> str:
        return self.client.create_run(self.flow, labels=[label])

    def release(self, run_id: str) -> None:
        (self.place / f"go-{run_id}").touch()

    def row(self, run_id: str) -> Any:
        return self.client.run(run_id, "state version serialized_state start_time end_time logs { message }")

    def state(self, run_id: str) -> str:
        return str(self.row(run_id)["state"])

    def wait_for(self, run_id: str, state: str, timeout_s: float = 30) -> None:
        wait_until(lambda: self.state(run_id) == state, timeout_s=timeout_s, what=lambda: f"{self.row(run_id)}")

    def wait_for_line(self, run_id: str, part: str) -> None:
        wait_until(lambda: any(part in line["message"] for line in self.row(run_id)["logs"]))

    def starts(self, run_id: str) -> int:
        return len((self.place / f"starts-{run_id}").read_text().splitlines())

    def claim(self, run_id: str) -> str:
        return str(self.row(run_id)["serialized_state"]["context"]["flowherd"]["claim"])

    def lines(self, run_id: str) -> list[str]:
        return sorted(line["message"] for line in self.row(run_id)["logs"] if line["message"].startswith("line"))

    def back_up(self) -> None:
        with closing(sqlite3.connect(self.database)) as source, closing(sqlite3.connect(self.place / "copy")) as target:
            source.backup(target)

    def take_server_away_and_restore(self) -> None:
        """Kill the server and put the backup in the place of its database, as the how-to says."""
        self.server.kill()
        for suffix in ("-wal", "-shm"):
            self.database.with_name(self.database.name + suffix).unlink(missing_ok=True)
        shutil.copy(self.place / "copy", self.database)


@pytest.fixture
def world(no_process_left: None, tmp_path: Path) -> Iterator[World]:
    (tmp_path / "home").mkdir()
    with ExitStack() as stack:
        yield World(tmp_path, stack)


def test_what_has_happened_since_is_told_again_and_nothing_runs_twice(world: World) -> None:
    world.start_agent("first", "early")
    ended_since, living = world.create("early"), world.create("early")
    queued_ended, queued_living, of_second = world.create("late"), world.create("late"), world.create("other")
    orphan = world.create("nobody")
    for state in ("Submitted", "Running"):
        world.client.report(orphan, state, claim=f"gone/{orphan}")
    for run_id in (ended_since, living):
        world.wait_for(run_id, "Running")
    world.back_up()

    # After the backup the agent is killed, and its successor runs what waited in the copy, and more.
    world.agents["first"].kill()
    world.start_agent("first", "early", "late")
    never_known, never_known_living = world.create("early"), world.create("early")
    for run_id in (queued_ended, queued_living, never_known, never_known_living):
        world.wait_for(run_id, "Running")
    for run_id in (ended_since, queued_ended, never_known):
        world.release(run_id)
        world.wait_for(run_id, "Success")
    ends = {run_id: world.row(run_id) for run_id in (ended_since, queued_ended)}

    world.start_agent("second", "early", "late", "other")
    world.release(of_second)
    world.wait_for(of_second, "Success")
    world.take_server_away_and_restore()
    world.server.start()
    assert "an older copy" in world.server.stderr

    for run_id, before in ends.items():
        world.wait_for(run_id, "Success", GRACE_S)
        row = world.row(run_id)
        assert row["end_time"] == before["end_time"]
        assert row["start_time"] == before["start_time"]
        world.wait_for_line(run_id, "reported again")
    world.wait_for(of_second, "Success", GRACE_S)
    for run_id in (living, queued_living):
        world.wait_for(run_id, "Running", GRACE_S)
        assert world.claim(run_id) == world.claim(queued_ended).replace(queued_ended, run_id)
    # It was a run of an agent that is gone; its agent has no end of it.
    world.wait_for(orphan, "Failed")
    assert "no agent" in world.row(orphan)["serialized_state"]["message"].lower()
    assert "does not know" in world.agents["first"].text()

    # Everything goes on: living runs, new ones, and the log of a run is whole, with each line once.
    after = world.create("other")
    for run_id in (living, queued_living, never_known_living, after):
        world.release(run_id)
    for run_id in (living, queued_living, after):
        world.wait_for(run_id, "Success")
        assert world.lines(run_id) == ["line 1", "line 2"]

    # A second time, with all agents killed while the server is away, and without time for their reports: each agent
    # knows itself what it must not start.
    for agent in world.agents.values():
        agent.kill()
    world.take_server_away_and_restore()
    world.server._settings["restore_grace"] = 0
    world.server.start()
    world.start_agent("second", "other")
    world.start_agent("first", "early", "late")
    told = (ended_since, living, queued_ended, queued_living, of_second)
    for run_id in told:
        world.wait_for(run_id, "Success", GRACE_S + 5)
    last = world.create("early")
    world.release(last)
    world.wait_for(last, "Success")
    everything = (*told, never_known, never_known_living, after, last)
    assert {run_id: world.starts(run_id) for run_id in everything} == dict.fromkeys(everything, 1)
