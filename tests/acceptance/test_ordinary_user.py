"""An agent that is an ordinary user: what it reads of its own processes, which other processes of its user may not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.support.commands import READY, CommandLine, background
from tests.support.unprivileged import AS_NOBODY, NOBODY, needs_root, needs_setpriv, reachable_directory
from tests.support.waiting import wait_until

pytestmark = [
    needs_root,
    needs_setpriv,
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.slow,
    pytest.mark.timeout(120),
]

#: Asks the agent to pause over its control socket, and prints the answer: itself, and as a daemon that has a session of
#: its own and nothing of the run's environment.
_ASK = """
import http.client, os, socket, sys, time
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request("POST", "/api/pause")
answer = connection.getresponse()
print(answer.status, answer.read().decode(), flush=True)
if len(sys.argv) == 2 and os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve(sys.executable, [*sys.orig_argv, "as a daemon"], {})
    os._exit(0)
time.sleep(300)
"""


@pytest.fixture
def command() -> Iterator[CommandLine]:
    """flowherd as `nobody`, with a home of its own."""
    with reachable_directory() as place:
        home = place / "home"
        home.mkdir(mode=0o700)
        os.chown(home, NOBODY, NOBODY)
        settings = {"FLOWHERD__SERVER__BIND_PORT": "0", "FLOWHERD__SERVER__TOKEN": "known"}
        yield CommandLine(home, {**settings, "HOME": str(home)}, AS_NOBODY)


def test_runs_are_adopted_after_a_kill_with_and_without_their_records_and_ask_nothing_of_the_agent(
    command: CommandLine,
) -> None:
    state = command.home / "agents" / "agent"
    with background(command, "server", until="ready at"):
        with background(command, "start", "--on-stop", "detach", until=READY) as first:
            asking = [sys.executable, "-c", _ASK, str(state / "control.sock")]
            command("register", "asks", "--no-check", "--command", "--", *asking)
            sleeping = ["sh", "-c", "echo going; exec sleep 300"]
            command("register", "sleeps", "--isolation", "private", "--command", "--", *sleeping)
            runs = [command.run("asks"), command.run("sleeps"), command.run("sleeps")]
            wait_until(lambda: all((state / "runs" / run / "started").exists() for run in runs))
            # After the agent's own line, which names the process.
            assert wait_until(lambda: _lines(command, runs[1], 2, "flowherd"))[1].startswith("Kept apart: private. ")
            lines = wait_until(lambda: _lines(command, runs[0], 2))
            assert [line[:4] for line in lines] == ["403 ", "403 "], lines
            assert f"belongs to flow run {runs[0]}" in lines[0]
            first.kill()
        # One cannot be named any more by what it has written: it is found by what its runner shows.
        (state / "runs" / runs[2] / "started").write_text("{")
        with background(command, "start", "--on-stop", "detach", until=READY) as second:
            command("cancel", *runs)
            ended = command.wait_for_ends(runs)
            assert [ended[run]["state"] for run in runs] == ["Cancelled"] * 3
            story = command.json("explain", runs[1])["timeline"]
            assert [one["detail"][:20] for one in story if one["what"] == "isolation"] == ["Kept apart: private."]
            assert second.text().count("Found the runner, which `started` does not name") == 1


def _lines(command: CommandLine, run: str, number: int, stream: str = "stdout") -> list[str]:
    found = command.lines(run, stream)
    return found if len(found) >= number else []
