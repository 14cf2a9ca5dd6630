"""Hundreds of half-open connections stop neither the server nor the agent, at 256 descriptors, nor fill their log."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import requests

from flowherd.agent.control_path import SOCKET_FILE, short_path
from tests.support.commands import READY, Background, CommandLine, background
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

HALF_OPEN = 400


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    home = tmp_path / "home"
    home.mkdir()
    return CommandLine(home, {"FLOWHERD__SERVER__BIND_PORT": "0"}, ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh"])


@pytest.fixture
def agent(command: CommandLine) -> Iterator[Background]:
    with background(command, "start", "--agent-address", "http://127.0.0.1:0", until=READY) as agent:
        yield agent


def half_open(stack: ExitStack, url: str) -> None:
    """Open connections to this address that send no request, or only its beginning, until the stack is closed."""
    port = int(url.rpartition(":")[2])
    for number in range(HALF_OPEN):
        connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        stack.callback(connection.close)
        connection.sendall(b"POST /graphql HTTP/1.1\r\nHost: x\r\n" if number % 2 else b"")


def half_open_socket(stack: ExitStack, state_dir: Path) -> None:
    """Do the same to the control socket, as far as its queue has room."""
    with short_path(state_dir) as path:
        for _ in range(HALF_OPEN):
            connection = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
            connection.settimeout(20)
            connection.connect(path)


def test_half_open_connections_hold_up_neither_runs_nor_health_nor_commands(
    command: CommandLine, agent: Background
) -> None:
    server_url = json.loads((command.home / "server.json").read_text())["url"]
    api = wait_until(lambda: re.search(r"agent's API at (http://\S+)", agent.text()), what=agent.text)[1]
    usual = CommandLine(command.home)  # without the limit, which would be this command's too
    usual("register", "hello", "--command", "--", "echo", "hello")
    state_dir = next(command.home.rglob(SOCKET_FILE)).parent
    with ExitStack() as stack:
        half_open(stack, server_url)
        half_open(stack, api)
        half_open_socket(stack, state_dir)
        run_id = usual.run("hello")
        assert usual.wait_for_ends([run_id])[run_id]["state"] == "Success"
        assert usual.lines(run_id) == ["hello"]
        for url in (server_url + "/health", api + "/api/health"):
            assert requests.get(url, timeout=20).ok
        assert ": up, pid" in usual("status").stdout
    second = usual.run("hello")
    assert usual.wait_for_ends([second])[second]["state"] == "Success"
    text = agent.text()
    assert "Too many open files" not in text
    assert len(text) < 20_000, text
    wait_until(lambda: open_files(agent.process.pid) < 200)


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
