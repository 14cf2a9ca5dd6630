"""`flowherd config` shows every value and its origin; a bad setting stops every command with one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import CommandLine

pytestmark = pytest.mark.slow

SECRET = "s3cr3t-t0ken"


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    (tmp_path / "home").mkdir()
    return CommandLine(tmp_path / "home")


def test_every_value_is_shown_with_its_origin(command: CommandLine) -> None:
    (command.home / "config.toml").write_text("[agent]\nlimit = 4\n")
    configured = CommandLine(command.home, {"PREFECT__CLOUD__AGENT__LABELS": "['a', 'b']"})
    values = configured.json("config")
    assert values["agent.limit"] == {
        "value": 4,
        "source": "file",
        "origin": f"file {command.home}/config.toml",
    }
    assert values["cloud.agent.labels"]["value"] == ["a", "b"]
    assert values["cloud.agent.labels"]["origin"] == "variable PREFECT__CLOUD__AGENT__LABELS"
    assert values["cloud.request_timeout"]["source"] == "default"
    assert values["home"] == {"value": str(command.home), "source": "environment", "origin": "variable FLOWHERD_HOME"}
    plain = configured("config").stdout
    assert "agent.limit" in plain
    assert str(command.home / "config.toml") in plain


def test_secrets_are_masked(command: CommandLine) -> None:
    path = command.home / "config.toml"
    path.write_text(f"[cloud]\nauth_token = '{SECRET}'\n[cloud.agent.env_vars]\nKEY = '{SECRET}'\n")
    path.chmod(0o644)
    for arguments in (["config"], ["config", "--json"]):
        done = command(*arguments)
        assert SECRET not in done.stdout + done.stderr
        assert "KEY" in done.stdout
        assert "chmod 600" in done.stderr


@pytest.mark.parametrize("arguments", [["config"], ["ps"], ["start"], ["server"], ["install", "systemd"], ["status"]])
def test_a_bad_setting_stops_every_command_and_is_named_with_its_source(
    command: CommandLine, arguments: list[str]
) -> None:
    wrong = CommandLine(command.home, {"FLOWHERD__CLOUD__REQUEST_TIMEOUT": "soon"})
    done = wrong(*arguments, code=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: cloud.request_timeout = 'soon'")
    assert "FLOWHERD__CLOUD__REQUEST_TIMEOUT" in line


def test_a_bad_option_is_named(command: CommandLine) -> None:
    for arguments, flag in ((["start", "--limit", "0"], "--limit"), (["server", "--port", "70000"], "--port")):
        assert flag in command(*arguments, code=2).stderr


def test_a_pair_without_an_equals_sign_is_refused(command: CommandLine) -> None:
    assert "-e" in command("start", "-e", "NOVALUE", code=2).stderr
