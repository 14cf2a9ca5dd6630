"""A real agent as systemd starts it: with a socket that was opened for it, and with reloads that it answers."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from flowherd.agent.api_servers import ApiServers
from flowherd.errors import ConfigurationError
from tests.support.commands import FLOWHERD, CommandLine
from tests.support.service_manager import notifications
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

#: What systemd-socket-activate passes on to what it starts.
PASSED = ("FLOWHERD_HOME", "NOTIFY_SOCKET", "PATH", "HOME", "FLOWHERD__CLOUD__API")


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


def asked(path: Path) -> dict[str, object]:
    """Ask the agent through the socket; waits until it answers."""
    connection = UnixConnection(path)
    try:
        connection.request("GET", "/api/agent")
        found: dict[str, object] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return found


def test_the_first_request_starts_the_agent_which_keeps_its_socket_over_a_restart_and_answers_reloads(
    tmp_path: Path,
) -> None:
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("systemd-socket-activate is not installed")
    place = tmp_path / "api"
    command = CommandLine(tmp_path / "home", {"FLOWHERD__CLOUD__API": "http://127.0.0.1:9"})
    environment = {**command.environment(), "NOTIFY_SOCKET": str(tmp_path / "notify")}
    listening = [activate, "--listen", str(place), "--fdname", "api"]
    listening += [f"--setenv={name}={environment[name]}" for name in PASSED]
    with notifications(tmp_path / "notify") as manager, (tmp_path / "out").open("wb") as out:
        agent = subprocess.Popen([*listening, *FLOWHERD, "start"], env=environment, stdout=out, stderr=out)
        try:
            wait_until(place.exists)
            first = asked(place)
            assert first["pid"] == agent.pid
            assert "READY=1" in manager.lines()
            manager.forget()
            agent.send_signal(signal.SIGHUP)
            wait_until(lambda: "READY=1" in manager.lines(), what="the end of the reload")
            reload = manager.messages()[0].splitlines()
            assert reload[0] == "RELOADING=1"
            assert reload[1].startswith("MONOTONIC_USEC=")
            manager.forget()
            command("restart")
            again = asked(place)
            assert (again["pid"], again["instance"] != first["instance"]) == (agent.pid, True)
            wait_until(lambda: "READY=1" in manager.lines(), what="the end of the restart")
            assert manager.lines().index("RELOADING=1") < manager.lines().index("READY=1")
        finally:
            agent.terminate()
            agent.wait(30)
        assert "STOPPING=1" in manager.lines()


def test_a_socket_that_is_open_to_others_needs_a_token_whoever_has_opened_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        monkeypatch.setattr("flowherd.agent.passed_sockets._FIRST", listener.fileno())
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        with pytest.raises(ConfigurationError, match="without a token the API is for this host only"):
            ApiServers("").serve_address(None, "")  # type: ignore[arg-type]
        monkeypatch.setenv("LISTEN_PID", "1")
        ApiServers("").serve_address(None, "")  # type: ignore[arg-type]
