"""The real server is killed under a real agent: runs go on, nothing is lost or doubled, and a 401 ends the agent."""

from __future__ import annotations

import itertools
import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from flowherd import LocalAgent
from flowherd.config import load_settings
from tests.support.agents import going
from tests.support.commands import READY, Background, CommandLine, background
from tests.support.server import ServerProcess, running_server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running_server(tmp_path / "data") as server:
        yield server


@pytest.fixture
def command(server: ServerProcess) -> CommandLine:
    return CommandLine(server.home, {"FLOWHERD__CLOUD__API": server.url, "FLOWHERD__CLOUD__REQUEST_TIMEOUT": "2"})


def talker(command: CommandLine, marks: Path, go: Path) -> None:
    """Register a flow that leaves a mark and prints one number after the other until `go` exists, then the last one."""
    count = f"n=0; while [ ! -e {go} ]; do n=$((n+1)); echo $n; sleep 0.02; done; echo last $n"
    script = f"echo $FLOWHERD_FLOW_RUN_ID >> {marks}; {count}"
    command("register", "talker", "--command", "--", "sh", "-c", script)


def assert_whole(lines: list[str]) -> None:
    """Check for every number once and in order, up to the one that the run itself prints as the last."""
    last = int(lines[-1].split()[1])
    assert lines[:-1] == [str(n) for n in range(1, last + 1)]


def test_runs_outlive_the_server_and_all_is_delivered_once_in_order(
    command: CommandLine, server: ServerProcess, tmp_path: Path
) -> None:
    """It is killed at moments that a seed picks, for about a second each, while runs begin, print and end."""
    marks, go = tmp_path / "marks", tmp_path / "go"
    pick = random.Random(5)
    talker(command, marks, go)
    with background(command, "start", until=READY) as agent:
        run_ids = []
        for _ in range(4):
            run_ids.append(command.run("talker"))
            time.sleep(pick.uniform(0.0, 0.4))  # the moment itself is varied
            server.kill()
            time.sleep(pick.uniform(0.2, 1.2))
            server.start()
        wait_until(lambda: set(marks.read_text().split()) == set(run_ids), timeout_s=40, what=agent.text)
        server.kill()
        go.touch()
        runs = command.home / "agents" / "agent" / "runs"
        wait_until(lambda: all((runs / run_id / "exit.json").exists() for run_id in run_ids), timeout_s=40)
        server.start()
        ends = command.wait_for_ends(run_ids)
        assert agent.process.poll() is None
        assert "Traceback" not in agent.text()
    assert {ends[run_id]["state"] for run_id in run_ids} == {"Success"}
    assert sorted(marks.read_text().split()) == sorted(run_ids)
    for run_id in run_ids:
        assert_whole(command.lines(run_id))


def test_health_is_503_while_the_server_is_away_and_200_when_it_is_back(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings({"cloud.api": server.url, "cloud.request_timeout": 0.5})
    with going(LocalAgent(settings=settings, agent_address="http://127.0.0.1:0")) as agent:
        address = wait_until(lambda: agent.api_address)

        def health() -> int:
            return requests.get(f"{address}/api/health", timeout=10).status_code

        wait_until(lambda: health() == 200)
        server.kill()
        wait_until(lambda: health() == 503)
        assert "backend has not answered" in requests.get(f"{address}/api/health", timeout=10).json()["reason"]
        server.start()
        wait_until(lambda: health() == 200)


def test_a_lost_contact_limit_ends_the_runs_with_that_reason(
    command: CommandLine, server: ServerProcess, tmp_path: Path
) -> None:
    limited = CommandLine(command.home, {**command.env, "FLOWHERD__CLOUD__LOST_CONTACT_LIMIT": "1.5"})
    marks = tmp_path / "marks"
    talker(command, marks, tmp_path / "never")
    with background(limited, "start", until=READY) as agent:
        run_id = command.run("talker")
        wait_until(marks.exists)
        wait_until(lambda: command.runs()[run_id]["state"] == "Running")
        gone_s = time.monotonic()
        server.kill()
        exit_record = command.home / "agents" / "agent" / "runs" / run_id / "exit.json"
        wait_until(exit_record.exists, what=agent.text)
        assert time.monotonic() - gone_s > 1.0
        server.start()
        ended = command.wait_for_ends([run_id])[run_id]
        assert (ended["state"], ended["reason"]) == ("Failed", "lost_contact")
        assert "had not answered for 1.5 s" in ended["message"]


def test_silence_of_both_sides_is_no_lost_contact(command: CommandLine, server: ServerProcess, tmp_path: Path) -> None:
    """A run that says nothing for long, an agent without room for more, and one that was suspended for a while."""
    limited = CommandLine(command.home, {**command.env, "FLOWHERD__CLOUD__LOST_CONTACT_LIMIT": "1"})
    command("register", "silent", "--command", "--", "sh", "-c", f"touch {tmp_path}/up; sleep 6")
    with background(limited, "start", "--limit", "1", until=READY) as agent:
        run_id = command.run("silent")
        wait_until((tmp_path / "up").exists)
        agent.process.send_signal(signal.SIGSTOP)
        time.sleep(2.0)  # twice the limit
        agent.process.send_signal(signal.SIGCONT)
        assert command.wait_for_ends([run_id])[run_id]["state"] == "Success"


def test_a_full_spool_holds_back_claims_until_the_server_has_taken_it(
    command: CommandLine, server: ServerProcess, tmp_path: Path
) -> None:
    capped = CommandLine(command.home, {**command.env, "FLOWHERD__RUNS__MAX_SPOOL_BYTES": "200000"})
    marks, go = tmp_path / "marks", tmp_path / "go"
    wide = "x" * 1000
    script = f"touch {marks}; while [ ! -e {go} ]; do sleep 0.05; done; for i in $(seq 400); do echo $i {wide}; done; "
    command("register", "wordy", "--command", "--", "sh", "-c", script + "sleep 1000")
    command("register", "quick", "--command", "--", "true")
    with background(capped, "start", until=READY) as agent:
        wordy = command.run("wordy")
        wait_until(marks.exists)
        wait_until(lambda: command.runs()[wordy]["state"] == "Running")
        server.kill()
        go.touch()
        held = wait_until(lambda: next((f for f in [findings(capped)] if f["spool"]["grade"] == "warn"), None))
        assert "spool full" in held["agent"]["detail"]
        server.start()
        quick = command.run("quick")
        assert command.wait_for_ends([quick])[quick]["state"] == "Success"
        assert len(command.lines(wordy)) == 400
        assert findings(capped)["spool"]["grade"] == "ok"
        command("cancel", wordy)
        command.wait_for_ends([wordy])
        assert agent.process.poll() is None


def findings(command: CommandLine) -> dict[str, dict[str, Any]]:
    return {check["check"]: check for check in json.loads(command("doctor", "--json", code=None).stdout)["checks"]}


def test_a_token_that_is_no_longer_accepted_ends_the_agent_and_not_its_runs(tmp_path: Path) -> None:
    """With exit code 2, after which supervisord and systemd do not start it again; the next agent adopts."""
    marks, go = tmp_path / "marks", tmp_path / "go"
    with running_server(tmp_path / "data", "first") as server:
        command = CommandLine(server.home, {"FLOWHERD__CLOUD__API": server.url, "FLOWHERD__SERVER__TOKEN": "first"})
        old = CommandLine(server.home, {**command.env, "FLOWHERD__CLOUD__AGENT__AUTH_TOKEN": "first"})
        new = CommandLine(
            server.home,
            {**command.env, "FLOWHERD__CLOUD__AGENT__AUTH_TOKEN": "second", "FLOWHERD__SERVER__TOKEN": "second"},
        )
        talker(old, marks, go)
        with background(old, "start", "--limit", "1", until=READY) as agent:
            run_id = old.run("talker")
            wait_until(marks.exists)
            wait_until(lambda: old.runs()[run_id]["state"] == "Running")
            server.token = "second"
            server.restart()
            assert _exit_code(agent) == 2
            assert agent.text().splitlines()[-1].startswith("error: ")
            assert "token" in agent.text().splitlines()[-1]
            assert "Leaving 1 flow run(s) running" in agent.text()
        with background(new, "start", until=READY):
            go.touch()
            assert new.wait_for_ends([run_id])[run_id]["state"] == "Success"
        assert_whole(new.lines(run_id))
    assert marks.read_text().split() == [run_id]


def _exit_code(agent: Background) -> int | None:
    wait_until(lambda: agent.process.poll() is not None, timeout_s=40, what=agent.text)
    return agent.process.returncode


@contextmanager
def busy_server(retry_after: str) -> Iterator[tuple[str, list[float]]]:
    """Run a server that answers 429 to everything; yield its address and the times of requests (monotonic seconds)."""
    asked: list[float] = []

    class Busy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(time.monotonic())
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(429)
            self.send_header("Retry-After", retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_busy_server_gets_no_request_before_its_retry_after() -> None:
    """Although the pauses between polls are much shorter, and the agent is poked."""
    with busy_server("2") as (url, asked), going(LocalAgent(settings=load_settings({"cloud.api": url}))) as agent:
        # The first is the hello at the start, which is no poll.
        wait_until(lambda: len(asked) >= 2)
        agent.poke()
        wait_until(lambda: len(asked) >= 4)
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked[1:])]
    assert min(pauses) >= 2.0
