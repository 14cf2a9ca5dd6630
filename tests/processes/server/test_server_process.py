"""The server as a process: killing it, stopping it, and starting it twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import requests

from tests.support.dialect import Client
from tests.support.server import running_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")


def start(tmp_path: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Start a server that is expected to fail at start."""
    command = [sys.executable, "-m", "flowherd_server", "--home", str(tmp_path / "home")]
    data = ["--data-dir", str(tmp_path / "data")]
    return subprocess.run(
        [*command, *data, *arguments],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow
def test_nothing_that_was_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        client = Client(server)
        flow = client.flow()
        run_id = client.create_run(flow)
        runs: list[str] = []
        lines: list[str] = []

        def create_until_it_is_gone() -> None:
            while True:
                try:
                    runs.append(client.create_run(flow))
                    message = str(len(runs))
                    client.do("write_run_logs", logs={"flow_run_id": run_id, "message": message, "line_id": message})
                    lines.append(message)
                except requests.RequestException:
                    return

        writer = threading.Thread(target=create_until_it_is_gone)
        writer.start()
        wait_until(lambda: len(runs) > 20)
        assert server.kill() == -signal.SIGKILL
        writer.join(30)
        server.restart()
        found = client.ask("{ flow_run { id state } log { line_id } }")
        stored = {run["id"] for run in found["flow_run"] if run["state"] == "Scheduled"}
        assert set(runs) <= stored
        # Requests that were not answered when the server died may be stored or not.
        assert len(stored) <= len(runs) + 2
        assert set(lines) <= {line["line_id"] for line in found["log"]}


def test_the_servers_files_are_private_and_its_address_file_is_there_until_it_stops(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        assert server.data_dir.stat().st_mode & 0o777 == 0o700
        modes = {path.name: path.stat().st_mode & 0o777 for path in server.data_dir.iterdir()}
        assert len(modes) >= 2
        assert set(modes.values()) == {0o600}, modes
        path = server.home / "server.json"
        about = {"url": server.url, "pid": server.pid, "data_dir": str(server.data_dir), "reloads": True}
        assert json.loads(path.read_text()) == about
        assert path.stat().st_mode & 0o777 == 0o600
        written = path.read_text()
        path.unlink()  # as a cleaner of temporary files does
        wait_until(lambda: path.exists() and path.read_text() == written, what="the address file, made again")
        assert path.stat().st_mode & 0o777 == 0o600
        server.stop()
        assert not path.exists()
        assert list(server.home.iterdir()) == []


def test_a_second_server_on_a_data_directory_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        refused = start(tmp_path, "--port", "0")
        assert refused.returncode == 78
        assert f"pid {server.pid}" in refused.stderr
        assert "Traceback" not in refused.stderr
        server.kill()
        server.restart()  # a killed server leaves no lock behind


def test_a_port_in_use_is_reported_with_the_option_for_another(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = start(tmp_path, "--port", str(taken.getsockname()[1]))
    assert refused.returncode == 78
    assert "--port" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_address_that_others_can_reach_needs_a_token(tmp_path: Path) -> None:
    refused = start(tmp_path, "--port", "0", "--host", "0.0.0.0")
    assert refused.returncode == 78
    assert "FLOWHERD__SERVER__TOKEN" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "data").exists()


def test_the_exit_code_for_bad_settings_can_be_chosen(tmp_path: Path) -> None:
    refused = start(tmp_path, "--port", "0", "--host", "0.0.0.0", "--bad-configuration-exit-code", "2")
    assert refused.returncode == 2


def test_a_bad_option_is_reported_by_its_name(tmp_path: Path) -> None:
    refused = start(tmp_path, "--port", "99999")
    assert refused.returncode == 78
    assert "--port" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_server_stops_at_once_while_agents_wait(tmp_path: Path, number: signal.Signals) -> None:
    with running_server(tmp_path / "data") as server:
        agent = Client(server).agent("a")
        seen = agent.wake()
        answers: list[int] = []
        wait = threading.Thread(target=lambda: answers.append(agent.wake(seen, timeout=60)))
        wait.start()
        wait_until(agent.connected)
        began_s = time.monotonic()
        assert server._end(number) == 0
        assert time.monotonic() - began_s < 5
        wait.join(10)
        assert answers == [seen]
        assert server.stderr == ""


def test_the_server_can_stop_with_the_process_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flowherd_server", "--home", str(tmp_path / "home"), "--port", "0"]
    arguments = ["--data-dir", str(tmp_path / "data"), "--stop-with-parent"]
    server = subprocess.Popen([*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert "ready" in server.stdout.readline()
    server.communicate("", timeout=20)
    assert server.returncode == 0
    assert not (tmp_path / "home" / "server.json").exists()


def test_stopping_with_the_parent_needs_a_pipe(tmp_path: Path) -> None:
    refused = start(tmp_path, "--port", "0", "--stop-with-parent")
    assert refused.returncode == 78
    assert "pipe" in refused.stderr


def test_finished_runs_are_deleted_after_the_configured_time(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        client = Client(server)
        flow = client.flow()
        old, recent, waiting = (client.create_run(flow) for _ in range(3))
        long_ago = datetime.now(timezone.utc) - timedelta(hours=2)
        for run_id, at in ((old, long_ago), (recent, datetime.now(timezone.utc))):
            client.report(run_id, "Submitted")
            client.report(run_id, "Success", at=at.isoformat())
            client.do("write_run_logs", logs=[{"flow_run_id": run_id, "message": "m"}] * 6_000)
        server.stop()
        server._settings["keep_finished"] = 3600
        server.restart()
        wait_until(lambda: client.run(old) is None)
        left = client.ask("{ flow_run { id } log_aggregate { aggregate { count } } }")
        assert [run["id"] for run in left["flow_run"]] == [recent, waiting]
        assert left["log_aggregate"]["aggregate"]["count"] == 6_000


def test_requests_of_clients_that_have_disconnected_are_not_carried_out(tmp_path: Path) -> None:
    """Prefect 1.x gives up after 15 s and repeats its request; a suspended server then finds both of them."""
    with running_server(tmp_path / "data") as server:
        body = json.dumps({"query": 'mutation { create_project(input: {name: "twice"}) { id } }'}).encode()
        head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as client:
                    client.sendall(request)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert Client(server).ask("{ project { id } }") == {"project": []}
        # A client that waits for the answer gets it.
        assert Client(server).do("create_project", name="twice")["id"]
