"""Prefect's configuration means the same to flowherd and to the real Prefects: files, variables, references."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from flowherd.config import load_settings
from flowherd.config.catalogue import value_of
from tests.peers.environments import PREFECT_0_AND_1, required_installation
from tests.peers.prefect1.workspace import inherited_environment

_FILE = """
backend = "cloud"
[firm]
name = "north"
first = "${firm.second}"
second = "${firm.name}"
[server]
host = "http://of-the-file"
[cloud]
heartbeat_interval = "${firm.beat}"
logging_heartbeat = "${LOGGING_BEAT}"
[cloud.agent]
name = "~ is $NAME, ${firm.first}, ${firm.nothing}, $UNKNOWN"
auth_token = "$FIRM_TOKEN"
labels = "['a', '${firm.name}']"
level = "${firm.level}"
[cloud.agent.env_vars]
NUMBER = "5"
NAMED = "$NAME-${firm.name}"
HOME_OF = "~/data"
"""
_ENVIRON = {
    "NAME": "${OTHER}",
    "OTHER": "outer",
    "FIRM_TOKEN": "token-99",
    "LOGGING_BEAT": "3",
    "PREFECT__FIRM__BEAT": "7",
    "PREFECT__FIRM__LEVEL": "DEBUG",
    "PREFECT__SERVER__PORT": "4711",
    "PREFECT__CLOUD__AGENT__AGENT_ADDRESS": "http://${firm.name}:$LOGGING_BEAT",
}
_SETTINGS = ("heartbeat_interval", "logging_heartbeat", "api", "agent.name", "agent.auth_token", "agent.labels")
_SETTINGS += ("agent.level", "agent.agent_address", "agent.env_vars")
_PRINT = """
import functools, json, sys, prefect
found = {name: functools.reduce(getattr, name.split("."), prefect.config.cloud) for name in json.loads(sys.argv[1])}
found["agent.labels"] = list(found["agent.labels"])
print(json.dumps(found))
"""


@pytest.mark.parametrize("version", PREFECT_0_AND_1)
def test_files_variables_and_references_have_the_values_that_prefect_gives_them(version: str, tmp_path: Path) -> None:
    (tmp_path / ".prefect").mkdir()
    (tmp_path / ".prefect" / "backend.toml").write_text('backend = "server"\n')
    (tmp_path / "elsewhere.toml").write_text(_FILE)
    environ = {**inherited_environment(), **_ENVIRON, "HOME": str(tmp_path)}
    environ["PREFECT__USER_CONFIG_PATH"] = "~/elsewhere.toml"
    done = subprocess.run(
        [required_installation(version).python, "-c", _PRINT, json.dumps(_SETTINGS)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    theirs = json.loads(done.stdout.splitlines()[-1])
    theirs["agent.env_vars"] = {name: str(value) for name, value in theirs["agent.env_vars"].items()}
    loaded = load_settings(environ=environ)
    assert {name: value_of(loaded.settings, f"cloud.{name}") for name in _SETTINGS} == theirs
    assert theirs["api"] == "http://of-the-file:4711" and theirs["agent.auth_token"] == "token-99"
