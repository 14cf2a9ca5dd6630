"""`flowherd explain` on real runs: why one waits, why one ended, and what is known while the backend is away."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from flowherd.programs.entry import ProgramEntry
from flowherd.programs.program_log import DIRECTORY, ProgramLog
from tests.support.commands import READY, CommandLine, background
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    home = tmp_path / "home"
    home.mkdir()
    return CommandLine(home, {"FLOWHERD__SERVER__BIND_PORT": "0"})


@pytest.fixture
def server(command: CommandLine) -> Iterator[None]:
    with background(command, "server", "--port", "0", until="ready at"):
        yield


def events(story: dict[str, Any]) -> list[str]:
    """What happened, without the lines that flowherd logged."""
    return [entry["what"] for entry in story["timeline"] if entry["what"] != "logged"]


#: Steps of every run that starts, and those that only the server knows.
BEFORE_CODE = {"created", "due", "intent", "claimed", "asked", "started", "code"}
AT_SERVER = {"created", "due", "claimed"}


def phases(command: CommandLine, run_id: str) -> dict[str, str]:
    """The steps of the run that have a time."""
    found = command.json("explain", "--phases", run_id)["phases"]
    return {step["phase"]: step["at"] for step in found if step["at"] is not None}


def test_the_story_of_a_run_from_its_creation_to_its_end(command: CommandLine, server: None, tmp_path: Path) -> None:
    """Ordered by time; on the host of the run also with its processes."""
    command(
        "register", "messy", "--command", "--", "sh", "-c", f"setsid sleep 100 & echo hi; touch {tmp_path}/up; wait"
    )
    run_id = command.run("messy")
    assert "No agent with the labels" in command.json("explain", run_id)["waiting"][0]
    with background(command, "start", "-n", "worker", until=READY):
        wait_until((tmp_path / "up").exists)
        wait_until(lambda: command.json("explain", run_id)["state"] == "Running")
        going = command.json("explain", run_id)
        assert going["waiting"] == ["Agent 'worker' has it."]
        assert going["runner_alive"] is True
        assert going["verdict"]["sentence"].startswith("Running for ")
        assert events(going) == ["created", "queued", "claimed", "started", "running"]
        started = next(h for h in going["timeline"] if h["what"] == "started")
        assert str(command.runs()[run_id]["pid"]) in started["detail"]
        assert "python" in started["detail"]
        command("cancel", run_id)
        command.wait_for_ends([run_id])
    ended = command.json("explain", run_id)
    assert (ended["state"], ended["reason"], ended["grade"]) == ("Cancelled", "cancelled", "proven")
    # The directory is gone; the server has what the end carried.
    of_host = ["asked to end", "process ended", "ended"]
    assert events(ended) == ["created", "queued", "claimed", "started", "running", "cancelling", *of_host]
    assert ended["leftovers"] and ended["leftovers"][0].startswith("sleep (")
    assert [line["what"] for line in ended["story"] if line["what"] != "logged"][-2:] == ["asked to end", "ended"]
    times = [datetime.fromisoformat(entry["at"]) for entry in ended["timeline"]]
    assert times == sorted(times)
    assert ended["evidence"]
    shown = command("explain", run_id).stdout
    assert "by agent worker" in shown
    assert "reason cancelled, proven" in shown
    steps = phases(command, run_id)
    assert set(steps) == {*BEFORE_CODE, "first line", "ended", "recorded", "stored"}
    order = [steps[name] for name in ("created", "intent", "started", "code", "ended", "recorded", "stored")]
    assert order == sorted(order)


def test_a_run_that_waits_for_a_paused_agent_says_so(command: CommandLine, server: None) -> None:
    command("register", "quick", "--command", "--", "true")
    with background(command, "start", until=READY):
        command("pause")
        run_id = command.run("quick")
        assert command.json("explain", run_id)["waiting"] == [
            "Agent 'agent' claims nothing: paused: claims nothing until `flowherd resume`."
        ]


def test_without_backend_and_agent_the_directory_shows_what_happened(command: CommandLine, tmp_path: Path) -> None:
    """For a run that ended meanwhile: its exit record, how much of its log was not sent, what it left running."""
    with background(command, "server", "--port", "0", until="ready at") as server:
        script = f"setsid sleep 100 & touch {tmp_path}/up; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo bye"
        command("register", "loner", "--command", "--", "sh", "-c", f"{script}; exit 3")
        with background(command, "start", until=READY) as agent:
            run_id = command.run("loner")
            wait_until((tmp_path / "up").exists)
            wait_until(lambda: command.runs()[run_id]["state"] == "Running")
            agent.kill()
        server.kill()
        (tmp_path / "go").touch()
        wait_until((command.home / "agents" / "agent" / "runs" / run_id / "exit.json").exists)
        story = command.json("explain", run_id[:8])
        assert "no API is known" in story["backend_error"]
        assert events(story) == ["started", "process ended"]
        assert story["leftovers"][0].startswith("sleep (")
        assert 0 <= story["forwarded_bytes"] < story["journal_bytes"]
        assert "only on this disk" in story["log"][0]
        assert "exited, proven" in command("explain", run_id).stdout
        assert set(phases(command, run_id)) == {*BEFORE_CODE, "first line", "ended", "recorded"} - AT_SERVER
        assert "not recorded: created, due, claimed, stored" in command("explain", "--phases", run_id).stderr
    with background(command, "server", "--port", "0", until="ready at"), background(command, "start", until=READY):
        assert command.wait_for_ends([run_id])[run_id]["state"] == "Failed"


def test_a_killed_runner_is_noticed_before_an_agent_has_looked(
    command: CommandLine, server: None, tmp_path: Path
) -> None:
    command("register", "victim", "--command", "--", "sh", "-c", f"touch {tmp_path}/up; exec sleep 100")
    with background(command, "start", until=READY) as agent:
        run_id = command.run("victim")
        wait_until((tmp_path / "up").exists)
        wait_until(lambda: command.runs()[run_id]["state"] == "Running")
        agent.kill()
    detail = next(h["detail"] for h in command.json("explain", run_id)["timeline"] if h["what"] == "started")
    os.kill(int(detail.split()[1].rstrip(",")), signal.SIGKILL)
    wait_until(lambda: command.json("explain", run_id)["runner_alive"] is False)
    assert "runner gone" in events(command.json("explain", run_id))
    wait_until(lambda: "is not running" in command.json("explain", run_id)["waiting"][0])
    with background(command, "start", until=READY):
        assert command.wait_for_ends([run_id])[run_id]["reason"] == "lost"


def test_an_unknown_run_is_not_found(command: CommandLine, server: None) -> None:
    assert "there is no run" in command("explain", "nothing", code=4).stderr


def test_a_program_of_supervisord_is_explained_from_the_listeners_log(command: CommandLine) -> None:
    """Without a server; a name without its group is enough if it is the only one."""
    missing = command("explain", "--program", "web", code=4)
    assert "[eventlistener:flowherd-listener]" in missing.stderr
    state_dir = command.home / "agents" / "worker"
    state_dir.mkdir(parents=True)
    log = ProgramLog(state_dir / DIRECTORY)
    told: dict[str, Any] = {"at": 1_800_000_000.0, "program": "shop:web"}
    log.add(ProgramEntry(**told, what="running", message="shop:web is running.", pid=7))
    log.add(ProgramEntry(at=told["at"] + 1, program="", what="lost", message="", count=2))
    end = ProgramEntry(
        **told, what="exited", message="shop:web was killed by SIGSEGV.", reason="signal", grade="proven", evidence="it"
    )
    log.add(end)
    log.add(
        ProgramEntry(**told, what="fatal", message="supervisord has given up starting shop:web.", reason="given_up")
    )
    shown = command("explain", "--program", "web")
    assert "shop:web, a program of supervisord: fatal since" in shown.stdout
    assert "shop:web was killed by SIGSEGV.\nReason: signal, proven. It.\n" in shown.stdout
    assert "2 events of supervisord are missing" in shown.stderr
    story = command.json("explain", "--program", "shop:web")
    assert (story["state"], story["reason"], story["lost"]) == ("fatal", "signal", 2)
    assert [each["what"] for each in story["entries"]] == ["running", "exited", "fatal"]
    log.add(ProgramEntry(at=1.0, program="bank:web", what="running", message="", pid=8))
    assert "bank:web, shop:web" in command("explain", "--program", "web", code=2).stderr
    assert "there are bank:web, shop:web" in command("explain", "--program", "other", code=4).stderr
    command("explain", code=2)
    command("explain", "3f2a", "--program", "web", code=2)
