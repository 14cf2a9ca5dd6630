"""The agent stops within a bound whatever it waits for; what it could not deliver is delivered by the next agent."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from flowherd.agent.shutdown import FLUSH_TIMEOUT_S
from flowherd.backends.graphql.transport import LANE_HEADER
from tests.support.commands import READY, Background, CommandLine, background
from tests.support.http_server import Answer, Request, http_server
from tests.support.server import ServerProcess, running_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

#: For everything that is quick on a host that is not busy; what the agent is made to wait for takes far longer.
MARGIN_S = 10.0


@pytest.fixture
def server(no_process_left: None, tmp_path: Path) -> Iterator[ServerProcess]:
    with running_server(tmp_path / "data") as server:
        yield server


class SlowServer:
    """Passes requests on to a real server, after a delay."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._released = threading.Event()
        #: Its own address.
        self.address = ""
        self.delay_s = 0.0
        #: Number of requests that are being delayed.
        self.held = 0

    def answer(self, request: Request) -> Answer:
        if self.delay_s:
            self.held += 1
            self._released.wait(self.delay_s)
        with requests.Session() as session:
            session.trust_env = False
            got = session.request(request.method, self._url + request.path, data=request.body, headers=request.headers)
        kept = {name: value for name, value in got.headers.items() if name.lower().startswith(("x-", "content-type"))}
        kept.pop(LANE_HEADER.lower(), None)  # else the agent passes this server by
        return Answer(status=got.status_code, headers=kept, body=got.content)

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def slow(server: ServerProcess) -> Iterator[SlowServer]:
    slow = SlowServer(server.url)
    with http_server(slow.answer) as address:
        slow.address = address
        yield slow
        slow.release()


def command_line(server: ServerProcess, **settings: str) -> CommandLine:
    return CommandLine(server.home, {"FLOWHERD__CLOUD__API": server.url, **settings})


def stop_within(agent: Background, limit_s: float) -> None:
    begun_s = time.monotonic()
    assert agent.stop(timeout_s=60) == 0
    took_s = time.monotonic() - begun_s
    assert took_s < limit_s, f"{took_s:.1f} s\n{agent.text()}"


def test_a_backend_that_answers_after_many_seconds_does_not_hold_up_the_stop(
    server: ServerProcess, slow: SlowServer, tmp_path: Path
) -> None:
    """The run's end and log are on the disk and reach the backend with the next agent."""
    patient = {"FLOWHERD__CLOUD__REQUEST_TIMEOUT": "100"}
    direct, through = command_line(server), command_line(server, FLOWHERD__CLOUD__API=slow.address, **patient)
    go = tmp_path / "go"
    direct("register", "talk", "--command", "--", "sh", "-c", f"while [ ! -e {go} ]; do sleep 0.02; done; echo the end")
    with background(through, "start", until=READY) as agent:
        run_id = direct.run("talk")
        wait_until(lambda: direct.runs()[run_id]["state"] == "Running", timeout_s=30)
        slow.delay_s = 100.0
        go.touch()
        direct("poke")
        wait_until(lambda: slow.held >= 2, timeout_s=30)
        stop_within(agent, FLUSH_TIMEOUT_S + MARGIN_S)
    assert direct.runs()[run_id]["state"] == "Running"
    with background(direct, "start", until=READY):
        assert direct.wait_for_ends([run_id])[run_id]["state"] == "Success"
    assert direct.lines(run_id) == ["the end"]


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_sigterm_ends_an_agent_that_is_still_starting(tmp_path: Path) -> None:
    """While it waits for the backend's first answer, and while an interpreter of its settings does not answer."""
    (tmp_path / "home").mkdir()
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 1000\n")
    python.chmod(0o755)
    with silent_server() as url:
        command = CommandLine(tmp_path / "home", {"FLOWHERD__CLOUD__API": url})
        with background(command, "start", until="Starting LocalAgent") as agent:
            stop_within(agent, MARGIN_S)
        asking = background(command, "start", "--verbose", "--runtime", f"odd={python}", until="State directory")
        with asking as agent:
            wait_until(lambda: _children(agent.process.pid))
            stop_within(agent, MARGIN_S)


def _children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text() or "".join(
        (path / "children").read_text() for path in Path(f"/proc/{pid}/task").iterdir()
    )


@pytest.fixture
def hanging(tmp_path: Path) -> Path:
    """A module whose import hangs as long as a file beside it is there, and the file."""
    (tmp_path / "lib").mkdir()
    lock = tmp_path / "lib" / "lock"
    lock.touch()
    (tmp_path / "lib" / "hangs.py").write_text(
        f"import os, subprocess, time\n"
        f"if os.path.exists({str(lock)!r}):\n"
        f"    subprocess.Popen(['sleep', '1000'])\n"
        f"    time.sleep(1000)\n"
    )
    return lock


def test_a_preload_that_hangs_is_named_and_does_not_hold_up_the_stop(server: ServerProcess, hanging: Path) -> None:
    """b19. The claimed run is left to the next agent, which starts it."""
    command = command_line(server, PYTHONPATH=str(hanging.parent))
    command("register", "hello", "--python", "platform:node", "--preload", "hangs")
    command("register", "plain", "--command", "--", "echo", "hello")
    with background(command, "start", until=READY) as agent:
        run_id = command.run("hello")
        wait_until(lambda: "It waits for its fork server" in command("explain", run_id).stdout, timeout_s=30)
        explained = next(s for s in command.json("explain", run_id)["waiting"] if "fork server" in s)
        assert explained.startswith(f"It waits for its fork server: {sys.executable} has been importing hangs for ")
        (wait,) = command.json("status")["local"]["preloading"]
        assert (wait["module"], wait["runs"]) == ("hangs", [run_id])
        command("run", "plain", "--wait")
        stop_within(agent, MARGIN_S)
    assert command.runs()[run_id]["state"] == "Submitted"
    hanging.unlink()
    with background(command, "start", until=READY):
        assert command.wait_for_ends([run_id])[run_id]["state"] == "Success"


def test_with_cancel_a_run_that_waits_for_its_fork_server_fails(server: ServerProcess, hanging: Path) -> None:
    command = command_line(server, PYTHONPATH=str(hanging.parent))
    command("register", "hello", "--python", "platform:node", "--preload", "hangs")
    with background(command, "start", "--on-stop", "cancel", until=READY) as agent:
        run_id = command.run("hello")
        wait_until(lambda: command.runs()[run_id]["state"] == "Submitted", timeout_s=30)
        stop_within(agent, MARGIN_S)
    run = command.runs()[run_id]
    assert run["state"] == "Failed"
    assert run["message"] == "The agent was stopped before the flow run could be started."


def test_a_fork_server_that_is_stopped_does_not_hold_up_the_stop(server: ServerProcess) -> None:
    """SIGSTOP: it neither answers nor ends at end of file."""
    command = command_line(server)
    with background(command, "start", until=READY) as agent:
        pids = wait_until(lambda: _fork_servers(agent.process.pid))
        for pid in pids:
            subprocess.run(["kill", f"-{signal.SIGSTOP.value}", str(pid)], check=True)
        command("register", "hello", "--python", "platform:node")
        run_id = command.run("hello")
        wait_until(lambda: command.runs()[run_id]["state"] == "Submitted", timeout_s=30)
        stop_within(agent, FLUSH_TIMEOUT_S + MARGIN_S)
    with background(command, "start", until=READY):
        assert command.wait_for_ends([run_id])[run_id]["state"] == "Success"


def _fork_servers(pid: int) -> list[int]:
    children = [int(child) for child in _children(pid).split()]
    return [child for child in children if "forkserver" in Path(f"/proc/{child}/cmdline").read_text()]
