"""An agent that isolates its runs: neither its own API nor the embedded server can be used without a token then."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import requests

from tests.support.commands import READY, CommandLine, background
from tests.support.dialect import Client
from tests.support.server import ServerProcess

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

ISOLATED = {"FLOWHERD__SERVER__BIND_PORT": "0", "FLOWHERD__RUNS__ISOLATION__LEVEL": "private"}
ADDRESS = {"FLOWHERD__CLOUD__AGENT__AGENT_ADDRESS": "http://127.0.0.1:0"}


def server_url(command: CommandLine) -> str:
    return str(json.loads((command.home / "server.json").read_text())["url"])


def post(url: str) -> int:
    """Ask without a token; return the status."""
    return requests.post(f"{url}/graphql", json={"query": "{ hello }"}, timeout=30).status_code


def test_start_makes_both_tokens_and_says_so(tmp_path: Path) -> None:
    command = CommandLine(tmp_path / "home", {**ISOLATED, **ADDRESS})
    with background(command, "start", until="Serving the agent's API at") as agent:
        files = {name: command.home / name for name in ("server.token", "agent.token")}
        for path in files.values():
            assert f"made one in {path} (mode 0600)" in agent.text()
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.read_text().strip() not in agent.text()
        api = re.search(r"Serving the agent's API at (http://\S+)", agent.text())
        assert api
        assert post(server_url(command)) == 401
        assert requests.get(f"{api[1]}/api/runs", timeout=30).status_code == 401
        assert requests.get(f"{api[1]}/api/health", timeout=30).json() == {}
        # The commands of the same user find both.
        assert command.json("ps") == []
        assert command.json("poke", "--agent-address", api[1]) == {"agents": 1}
        assert agent.stop() == 0


def test_a_running_server_gets_its_token_from_start_unless_agents_use_it_without_one(tmp_path: Path) -> None:
    usual = CommandLine(tmp_path / "home", {"FLOWHERD__SERVER__BIND_PORT": "0"})
    isolated, elsewhere = CommandLine(usual.home, ISOLATED), CommandLine(tmp_path / "elsewhere", ISOLATED)
    with background(usual, "server", until="ready at") as server:
        url = server_url(usual)
        with background(usual, "start", "-n", "first", until=READY) as first:
            assert "these use it without one and would be refused: agent first" in isolated("start", code=2).stderr
            assert "wants no token" in elsewhere("start", "--api", url, code=2).stderr
            assert first.stop() == 0
        engine = ServerProcess(tmp_path / "data")
        engine.url = url
        client = Client(engine)
        run_id, _ = client.going_run(storage={"type": "Local"})
        assert f"would be refused: run {client.run(run_id, 'name')['name']}" in isolated("start", code=2).stderr
        client.report(run_id, "Success")
        assert post(url) == 200
        with background(isolated, "start", "--api", url.replace("127.0.0.1", "localhost"), until=READY) as agent:
            assert f"it wants the one in {usual.home / 'server.token'} now" in agent.text()
            assert post(url) == 401
            assert usual.json("ps") == []
            assert "Changed: server.token is ********, was empty" in server.text()
            assert agent.stop() == 0


def test_a_server_makes_its_token_too_if_the_settings_isolate_runs(tmp_path: Path) -> None:
    command = CommandLine(tmp_path / "home", ISOLATED)
    with background(command, "server", until="ready at") as server:
        assert "made one in" in server.text()
        assert (
            requests.post(f"{server_url(command)}/graphql", json={"query": "{ hello }"}, timeout=30).status_code == 401
        )
