"""systemd reads an agent's units as they were meant, and each version gets what it knows."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flowherd.errors import ConfigurationError
from flowherd.supervisord.service_files import Service
from flowherd.supervisord.systemd_units import INSTANCE, UnitOptions, socket_unit, systemd_unit

AWKWARD = [
    "plain",
    "with blank",
    "100%",
    'say "hi"',
    "it's",
    "a=b,c",
    "$HOME",
    "back\\slash",
    "ümlaut",
    "x;y#z",
    "%(here)s",
]
TOKEN_FILE = "FLOWHERD__CLOUD__AGENT__AUTH_TOKEN_FILE"
#: What systemd reads only from these versions on.
LATER = {250: "LoadCredential=", 253: "Type=notify-reload", 254: "DelegateSubgroup="}


def service(**given: Any) -> Service:
    values: dict[str, Any] = {
        "name": "flowherd",
        "argv": ["/usr/bin/env", "x"],
        "directory": Path("/"),
        "stop_wait_s": 640,
        **given,
    }
    return Service(**values)


def unit(*, version: int = 252, of_service: Service | None = None, **given: Any) -> str:
    options = UnitOptions(version=version, watchdog_s=300, **given)
    return systemd_unit(of_service or service(), options)


def test_systemd_accepts_the_units_of_its_version(tmp_path: Path) -> None:
    """According to systemd's own checker; of what is for later versions it names exactly that."""
    checker = shutil.which("systemd-analyze")
    if checker is None:
        pytest.skip("systemd-analyze is not installed")
    version = int(subprocess.run([checker, "--version"], capture_output=True, text=True, check=True).stdout.split()[1])
    environment = {f"V{number}": word for number, word in enumerate(AWKWARD)}
    secrets = {TOKEN_FILE: tmp_path / "the token"}
    awkward = service(argv=[sys.executable, *AWKWARD], environment=environment)
    own = UnitOptions(version=version, watchdog_s=300)
    (tmp_path / "own.service").write_text(unit(version=version, of_service=awkward, secrets=secrets))
    (tmp_path / "own@.service").write_text(unit(version=version, is_template=True))
    (tmp_path / "unknown.service").write_text(unit(version=0, secrets=secrets))
    (tmp_path / "own.socket").write_text(socket_unit(service(name="own"), own, "127.0.0.1:8080"))
    with_isolation = unit(version=version).replace("\n#Environment", "\nEnvironment")
    assert "\nEnvironment=FLOWHERD__RUNS__ISOLATION__LEVEL=private\n" in with_isolation
    (tmp_path / "isolated.service").write_text(with_isolation)
    (tmp_path / "later.service").write_text(unit(version=260))
    names = ("own.service", "own@one.service", "unknown.service", "isolated.service", "own.socket")
    paths = [str(tmp_path / name) for name in names]
    done = subprocess.run(
        [checker, "verify", *paths, str(tmp_path / "later.service")], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert [line for line in complaints if "later.service" not in line] == []
    expected = [text for since, text in LATER.items() if since > version]
    assert len([line for line in complaints if "later.service" in line]) == len(expected), complaints


@pytest.mark.parametrize("version", [0, 240, 252, 253, 254, 260])
def test_a_version_gets_what_it_knows_and_nothing_else(version: int) -> None:
    text = unit(version=version, secrets={TOKEN_FILE: Path("/etc/flowherd/token")})
    for since, line in LATER.items():
        assert (line in text) == (version >= since)
    lines = text.splitlines()
    assert ("ExecReload=/bin/kill -HUP $MAINPID" in lines) == ("Type=notify" in lines) == (version < 253)
    assert "Delegate=yes" in lines


def test_runs_survive_the_agent() -> None:
    lines = unit(of_service=service(user="flow", environment_file=Path("/etc/flow herd"))).splitlines()
    for line in (
        "KillMode=process",
        "Restart=on-failure",
        "RestartPreventExitStatus=2",
        "TimeoutStopSec=640",
        "WatchdogSec=300",
        "User=flow",
        "EnvironmentFile=/etc/flow herd",
    ):
        assert line in lines


def test_isolation_is_a_comment_unless_it_is_chosen() -> None:
    assert "\n#Environment=FLOWHERD__RUNS__ISOLATION__LEVEL=private\n" in unit()
    assert "ISOLATION" not in unit(of_service=service(argv=["flowherd", "start", "--isolation", "sealed"]))


def test_systemd_gets_words_with_what_it_would_expand_in_quotes() -> None:
    text = unit(of_service=service(argv=["/bin/x", "100%", "$HOME", 'a"b'], environment={"A": "50% $x"}))
    assert 'ExecStart="/bin/x" "100%%" "$$HOME" "a\\"b"' in text
    assert 'Environment="A=50%% $x"' in text


def test_a_secret_is_loaded_by_systemd_or_read_from_its_file_if_that_is_too_old() -> None:
    secrets = {TOKEN_FILE: Path("/etc/flow herd/100%")}
    new = unit(version=250, secrets=secrets).splitlines()
    assert "LoadCredential=flowherd.cloud.agent.auth_token:/etc/flow herd/100%%" in new
    assert f'Environment="{TOKEN_FILE}=%d/flowherd.cloud.agent.auth_token"' in new
    of_file = f'Environment="{TOKEN_FILE}=/etc/flow herd/100%%"'
    assert of_file in unit(version=249, secrets=secrets).splitlines()
    assert of_file in unit(version=254, secrets=secrets, is_users=True).splitlines()


def test_a_users_unit_starts_with_that_users_systemd() -> None:
    text = unit(is_users=True)
    assert "WantedBy=default.target" in text.splitlines()
    assert "network-online" not in text, "a user's systemd has no such target"
    assert "~/.config/systemd/user/flowherd.service" in text


def test_an_instance_of_the_template_is_the_agent_of_that_name() -> None:
    text = unit(is_template=True, of_service=service(argv=["/bin/flowherd", "start", "--name", INSTANCE]))
    assert 'ExecStart="/bin/flowherd" "start" "--name" "%i"' in text.splitlines()
    assert "/etc/systemd/system/flowherd@.service" in text


def test_a_socket_in_the_file_system_is_for_its_user_only() -> None:
    options = UnitOptions(version=252, watchdog_s=300)
    lines = socket_unit(service(user="flow"), options, "/run/flowherd/api").splitlines()
    for line in ("ListenStream=/run/flowherd/api", "SocketMode=0600", "SocketUser=flow", "Service=flowherd.service"):
        assert line in lines
    with pytest.raises(ConfigurationError):
        socket_unit(service(), options, "127.0.0.1:80\nExecStart=x")


@pytest.mark.parametrize("bad", [{"name": "a b"}, {"user": "x\ny"}, {"environment": {"A B": "c"}}, {"name": "-x"}])
def test_invalid_names_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        unit(of_service=service(**bad))
