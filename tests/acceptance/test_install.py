"""`flowherd install` prints service files that supervisord and systemd accept, and never a token."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from flowherd.supervisord.rpc import Access, SupervisordError, find_access, program_state
from tests.support.commands import CommandLine
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

TOKEN = "s3cr3t-t0ken"


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "home")


def configured(section: str, directory: Path) -> Path:
    """Write a complete configuration of supervisord with this program section; its socket is directory/s."""
    path = directory / "supervisord.conf"
    path.write_text(
        f"[supervisord]\nlogfile={directory}/supervisord.log\npidfile={directory}/supervisord.pid\n"
        f"childlogdir={directory}\nnodaemon=true\n"
        f"[unix_http_server]\nfile={directory}/s\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[supervisorctl]\nserverurl=unix://%(here)s/s\n{section}"
    )
    return path


@contextmanager
def supervisord(configuration: Path) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(configuration)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until((configuration.parent / "s").exists, what="supervisord's socket")
        yield
    finally:
        process.terminate()
        process.wait(30)


def names_file(text: str, variable: str, path: Path) -> bool:
    """Return whether the service gets the file in this variable, be it as the credential that systemd loads from it."""
    plain = text.replace('"', "")
    loaded = re.search(r"^LoadCredential=([a-z0-9_.]+):(.+)$", plain, re.MULTILINE)
    if loaded is not None:
        return loaded[2] == str(path) and f"\nEnvironment={variable}=%d/{loaded[1]}\n" in plain
    return f"{variable}={path}" in plain


def test_supervisords_own_parser_accepts_the_section(command: CommandLine, tmp_path: Path) -> None:
    isolated = CommandLine(command.home, {"FLOWHERD__RUNS__ISOLATION__NETWORK": "none"})
    given = ["-l", "a,b", "-l", "gpu", "-e", "A=b=c", "-a", "http://h:1", "--isolation", "sealed"]
    text = isolated("install", "supervisord", "-n", "web 1", *given).stdout
    options = ServerOptions()
    options.configfile = str(configured(text, tmp_path))
    options.realize(args=[])
    (group,) = options.process_group_configs
    (program,) = group.process_configs
    words = ["-m", "flowherd", "start", "--name", "web 1", "--label", "a,b", "--label", "gpu"]
    words += ["--isolation", "sealed", "--network", "none", "--on-stop", "detach"]
    assert shlex.split(program.command) == [sys.executable, *words]
    assert program.environment == {"FLOWHERD_HOME": str(command.home), "A": "b=c", "FLOWHERD__CLOUD__API": "http://h:1"}
    assert (program.stopasgroup, program.killasgroup) == (False, False)
    assert program.stopwaitsecs > 600


def test_the_service_gets_more_time_to_stop_than_it_drains(command: CommandLine) -> None:
    patient = CommandLine(command.home, {"FLOWHERD__AGENT__DRAIN_DEADLINE": "3600"})
    assert "\nstopwaitsecs=3640\n" in patient("install", "supervisord").stdout
    assert "\nTimeoutStopSec=3640\n" in patient("install", "systemd").stdout


@pytest.mark.parametrize("kind", ["supervisord", "systemd"])
def test_the_token_goes_into_a_file_of_its_own_and_nowhere_else(
    command: CommandLine, tmp_path: Path, kind: str
) -> None:
    knowing = CommandLine(command.home, {"FLOWHERD__CLOUD__AGENT__AUTH_TOKEN": TOKEN})
    without = knowing("install", kind)
    assert TOKEN not in without.stdout + without.stderr
    assert "--write-token-file" in without.stderr
    path = tmp_path / "secrets" / "token"
    done = knowing("install", kind, "--token-file", str(path), "--write-token-file")
    assert TOKEN not in done.stdout + done.stderr
    assert names_file(done.stdout, "FLOWHERD__CLOUD__AGENT__AUTH_TOKEN_FILE", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    reader = CommandLine(command.home, {"FLOWHERD__CLOUD__AGENT__AUTH_TOKEN_FILE": str(path)})
    assert str(path) in reader.json("config")["cloud.agent.auth_token"]["origin"]


def test_a_missing_token_file_is_a_note(command: CommandLine, tmp_path: Path) -> None:
    assert "umask 077" in command("install", "systemd", "--token-file", str(tmp_path / "none")).stderr
    assert "--token-file" in command("install", "systemd", "--write-token-file", code=2).stderr


def test_systemd_accepts_the_unit(command: CommandLine, tmp_path: Path) -> None:
    checker = shutil.which("systemd-analyze")
    if checker is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / "agent.service"
    options = ["--service", "agent", "-n", "web 1", "--user", "root", "--env-file", "/etc/default/flow herd"]
    path.write_text(command("install", "systemd", *options).stdout)
    done = subprocess.run([checker, "verify", str(path)], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "agent.service" in line] == []


def test_systemd_runs_agents_of_a_user_by_name_and_with_an_address_of_its_own(command: CommandLine) -> None:
    users = command("install", "systemd", "--user-unit", "--template", "--systemd-version", "260").stdout.splitlines()
    for line in ("Type=notify-reload", "DelegateSubgroup=agent", "WantedBy=default.target"):
        assert line in users
    assert any(line.startswith("ExecStart=") and '"--name" "%i"' in line for line in users)
    socket = command("install", "systemd", "--socket", "--agent-address", "http://localhost:8081").stdout
    assert "ListenStream=127.0.0.1:8081" in socket.splitlines()
    assert "--agent-address" in command("install", "systemd", "--socket", code=2).stderr
    for pair in (["--user-unit", "--user", "root"], ["--template", "-n", "web"]):
        assert "exclude each other" in command("install", "systemd", *pair, code=2).stderr


def test_an_unknown_user_is_refused(command: CommandLine) -> None:
    assert "no-such-user" in command("install", "supervisord", "--user", "no-such-user", code=4).stderr


def test_the_service_of_a_user_has_that_users_home(command: CommandLine) -> None:
    """Unless FLOWHERD_HOME is set, the files of the service are in its user's home."""
    environ = {"FLOWHERD_HOME": ""}
    text = CommandLine(command.home, environ)("install", "supervisord", "--user", "root").stdout
    assert 'FLOWHERD_HOME="/root/.flowherd"' in text
    assert 'HOME="/root"' in text
    assert "\nuser=root\n" in text


def test_status_is_what_supervisord_reports(command: CommandLine, tmp_path: Path) -> None:
    section = "[program:sleeper]\ncommand=sleep 1000\nstartsecs=0\n[program:broken]\ncommand=false\nautostart=false\n"
    configuration = configured(section, tmp_path)
    url = f"unix://{tmp_path}/s"
    with supervisord(configuration):
        wait_until(lambda: program_state(Access(url=url), "sleeper").up, what="the program")
        for how in (["--supervisor-url", url], ["--supervisor-conf", str(configuration)]):
            done = command("status", "--program", "sleeper", "--json", *how)
            printed = json.loads(done.stdout)
            assert printed["up"] is True
            assert printed["supervisord"]["state"] == "RUNNING"
            assert printed["supervisord"]["pid"] > 1
        assert "STOPPED" in command("status", "--program", "broken", "--supervisor-url", url, code=1).stdout
        assert "no program" in command("status", "--program", "none", "--supervisor-url", url, code=4).stderr
    assert "cannot be reached" in command("status", "--supervisor-url", url, code=3).stderr


def test_without_supervisord_status_depends_on_the_state_directory(command: CommandLine) -> None:
    done = command("status", code=1)
    assert "agent 'agent': not running here" in done.stdout
    assert "no API is known" in done.stderr


def test_something_other_than_supervisord_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SupervisordError, match="unix:///path"):
        program_state(Access(url="ftp://x"), "flowherd")
    with pytest.raises(SupervisordError, match="cannot be reached"):
        program_state(Access(url="http://127.0.0.1:9"), "flowherd")
    (tmp_path / "empty.conf").write_text("[supervisord]\n")
    with pytest.raises(SupervisordError, match="serverurl"):
        find_access(None, str(tmp_path / "empty.conf"))


def test_one_command_makes_the_service_for_a_host_of_a_fleet(command: CommandLine, tmp_path: Path) -> None:
    runtime = "third=/opt/prefect 3;core=3.*;preload=pandas"
    options = ["--pool", "machines", "--work-queue", "big", "--work-queue", "small", "--api", "http://h:4200/api"]
    more = ["--runtime", runtime, "--limit", "8", "--agent-address", "http://127.0.0.1:8080", "-n", "host-1"]
    options_of = ServerOptions()
    options_of.configfile = str(configured(command("install", "supervisord", *options, *more).stdout, tmp_path))
    options_of.realize(args=[])
    (program,) = options_of.process_group_configs[0].process_configs
    words = ["--agent-address", "http://127.0.0.1:8080", "--pool", "machines", "--work-queue", "big"]
    words += ["--work-queue", "small", "--limit", "8", "--runtime", runtime, "--on-stop", "detach"]
    assert shlex.split(program.command) == [sys.executable, "-m", "flowherd", "start", "--name", "host-1", *words]
    assert program.environment == {
        "FLOWHERD_HOME": str(command.home),
        "FLOWHERD__PREFECT3__API": "http://h:4200/api",
    }


def test_the_service_has_the_address_from_prefects_own_settings(command: CommandLine) -> None:
    knowing = CommandLine(command.home, {"PREFECT_API_URL": "http://h:4200/api"})
    line = 'Environment="FLOWHERD__PREFECT3__API=http://h:4200/api"'
    assert line in knowing("install", "systemd", "--pool", "machines").stdout.splitlines()
    assert "--api URL" in command("install", "systemd", "--pool", "machines").stderr


@pytest.mark.parametrize("kind", ["supervisord", "systemd"])
@pytest.mark.parametrize(
    ("variable", "flag", "setting"),
    [
        ("PREFECT_API_KEY", "--token-file", "prefect3.api_key"),
        ("PREFECT_API_AUTH_STRING", "--auth-string-file", "prefect3.auth_string"),
    ],
)
def test_the_credentials_for_a_pool_go_into_files_of_their_own_and_nowhere_else(
    command: CommandLine, tmp_path: Path, kind: str, variable: str, flag: str, setting: str
) -> None:
    knowing = CommandLine(command.home, {variable: f"me:{TOKEN}"})
    pool = ("--pool", "machines", "--api", "http://h:4200/api")
    without = knowing("install", kind, *pool)
    assert TOKEN not in without.stdout + without.stderr
    assert f"{flag} FILE --write-token-file" in without.stderr
    path = tmp_path / "secret"
    done = knowing("install", kind, *pool, flag, str(path), "--write-token-file")
    assert TOKEN not in done.stdout + done.stderr
    name = f"FLOWHERD__{setting.upper().replace('.', '__')}_FILE"
    assert names_file(done.stdout, name, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    reader = CommandLine(command.home, {name: str(path)})
    assert str(path) in reader.json("config")[setting]["origin"]


def test_options_for_a_pool_are_refused_without_one(command: CommandLine, tmp_path: Path) -> None:
    assert "--pool" in command("install", "systemd", "--work-queue", "big", code=2).stderr
    assert "--pool" in command("install", "systemd", "--auth-string-file", str(tmp_path / "x"), code=2).stderr


def test_systemd_accepts_the_unit_of_a_prefect_server(command: CommandLine, tmp_path: Path) -> None:
    checker = shutil.which("systemd-analyze")
    if checker is None:
        pytest.skip("systemd-analyze is not installed")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "prefect").symlink_to("/bin/true")
    options = ["--service", "engine", "--user", "root", "--env-file", str(tmp_path / "the env")]
    path = tmp_path / "engine.service"
    path.write_text(command("install", "prefect-server", "systemd", str(tmp_path / "venv"), *options).stdout)
    done = subprocess.run([checker, "verify", str(path)], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "engine.service" in line] == []
    assert f"EnvironmentFile={tmp_path}/the env" in path.read_text().splitlines()
