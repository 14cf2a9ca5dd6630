"""Which server a client command uses: --api, else the settings, else the embedded server that is running."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import CommandLine
from tests.support.server import ServerProcess, running_server

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]


def test_without_any_api_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    done = CommandLine(tmp_path / "home")("ps", code=3)
    assert done.stderr.startswith("error: ")
    assert "flowherd start" in done.stderr
    assert "flowherd server" in done.stderr


def test_a_running_server_is_found_until_it_is_killed(own_command: CommandLine, own_server: ServerProcess) -> None:
    assert own_command.json("ps") == []
    own_server.kill()
    assert (own_command.home / "server.json").exists()
    assert "no API is known" in own_command("ps", code=3).stderr


def test_an_option_is_stronger_than_the_settings(command: CommandLine, server: ServerProcess) -> None:
    elsewhere = CommandLine(command.home, {"FLOWHERD__CLOUD__API": "http://127.0.0.1:9"})
    assert "http://127.0.0.1:9" in elsewhere("ps", code=3).stderr
    assert elsewhere.json("ps", "--api", server.url) == []


def test_the_api_in_prefects_configuration_is_used(server: ServerProcess, tmp_path: Path) -> None:
    away = CommandLine(tmp_path / "other-home", {"PREFECT__CLOUD__API": server.url})
    assert away.json("ps") == []


def test_a_wrong_token_is_an_error_of_the_settings(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", token="right") as server:
        command = CommandLine(server.home)
        assert "token" in command("ps", code=2).stderr
        knowing = CommandLine(command.home, {"FLOWHERD__CLOUD__AUTH_TOKEN": "right"})
        assert knowing.json("ps") == []
        own = CommandLine(command.home, {"FLOWHERD__SERVER__TOKEN": "right"})
        assert own.json("ps") == []
        # The embedded server's own token is sent to that server only, not to an address that is set.
        assert "token" in own("ps", "--api", server.url, code=2).stderr
