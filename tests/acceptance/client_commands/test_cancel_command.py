"""`flowherd cancel` and `flowherd poke` against a real server."""

from __future__ import annotations

import uuid

import pytest

from tests.acceptance.client_commands.helpers import FakeAgent, register
from tests.support.commands import CommandLine

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]


def test_a_run_is_cancelled_once(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "hello")
    waiting, going = command.run("hello"), command.run("hello")
    agent.state(going, "Running")
    assert command.json("cancel", waiting) == {"id": waiting, "state": "Cancelled", "was_finished": False}
    assert command.json("cancel", going[:8])["state"] == "Cancelling"
    done = command("cancel", waiting, code=1)
    assert "finished already: Cancelled" in done.stderr
    command("cancel", str(uuid.uuid4()), code=4)


def test_poke_prints_how_many_agents_it_woke(command: CommandLine) -> None:
    done = command("poke", code=1)
    assert done.stdout == "woke 0 agents\n"
    assert "no answer" in command("poke", "--agent-address", "127.0.0.1:9", code=3).stderr
