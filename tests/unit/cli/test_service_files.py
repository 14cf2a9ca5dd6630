"""supervisord and systemd read service files as they were meant; what a format cannot express is refused."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from flowherd.errors import ConfigurationError
from flowherd.supervisord.service_files import Service, server_section, server_unit, supervisord_section

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


def service(**given: object) -> Service:
    values = {"name": "flowherd", "argv": ["/usr/bin/env", "x"], "directory": Path("/"), "stop_wait_s": 640, **given}
    return Service(**values)


def parsed(text: str, tmp_path: Path) -> object:
    """Return the one program that supervisord's own parser finds in a configuration with this section."""
    path = tmp_path / "supervisord.conf"
    path.write_text(f"[supervisord]\nlogfile={tmp_path}/log\npidfile={tmp_path}/pid\n\n{text}")
    options = ServerOptions()
    options.configfile = str(path)
    options.realize(args=[])
    (group,) = options.process_group_configs
    (program,) = group.process_configs
    return program


def test_supervisord_reads_what_was_meant(tmp_path: Path) -> None:
    text = supervisord_section(
        service(argv=["/usr/bin/env", *AWKWARD], environment={"FLOWHERD_HOME": "/srv/flow herd"})
    )
    program = parsed(text, tmp_path)
    assert program.name == "flowherd"
    assert shlex.split(program.command) == ["/usr/bin/env", *AWKWARD]
    assert program.environment == {"FLOWHERD_HOME": "/srv/flow herd"}
    assert program.directory == "/"


def test_the_comment_about_isolation_can_take_the_place_of_the_line_above_it(tmp_path: Path) -> None:
    text = supervisord_section(service(environment={"A": "100%"}))
    assert parsed(text, tmp_path).environment == {"A": "100%"}
    without, found = re.subn(r"^environment=.*\n", "", text, flags=re.MULTILINE)
    isolated = parsed(without.replace("\n;environment=", "\nenvironment="), tmp_path)
    assert found == 1
    assert isolated.environment == {"A": "100%", "FLOWHERD__RUNS__ISOLATION__LEVEL": "private"}
    assert "ISOLATION" not in supervisord_section(service(argv=["flowherd", "start", "--isolation", "sealed"]))


def test_under_supervisord_runs_survive_the_agent(tmp_path: Path) -> None:
    """A stop signals only the agent, which gets more time than draining takes."""
    program = parsed(supervisord_section(service()), tmp_path)
    assert program.stopasgroup is False
    assert program.killasgroup is False
    assert program.stopwaitsecs == 640
    assert program.stopsignal == 15
    assert 2 in program.exitcodes


@pytest.mark.parametrize("value", [*(word for word in AWKWARD if not word.endswith('"')), "", 'a,b="c" '])
def test_supervisord_sets_variables_to_their_values(tmp_path: Path, value: str) -> None:
    program = parsed(supervisord_section(service(environment={"A": value, "B": "after"})), tmp_path)
    assert program.environment == {"A": value, "B": "after"}


@pytest.mark.parametrize("value", ["two\nlines", "a ;b", "a #b", "'\"", "\"both'", 'at the "end"'])
def test_what_supervisords_format_cannot_express_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError):
        supervisord_section(service(environment={"A": value}))


@pytest.mark.parametrize("bad", [{"name": "a b"}, {"user": "x\ny"}, {"environment": {"A B": "c"}}, {"name": "-x"}])
def test_invalid_names_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        supervisord_section(service(**bad))


def test_supervisord_reads_no_environment_file() -> None:
    with pytest.raises(ConfigurationError, match="environment file"):
        supervisord_section(service(environment_file=Path("/etc/default/flowherd")))


def test_a_server_under_supervisord_gets_the_variables_of_its_file(tmp_path: Path) -> None:
    """supervisord reads no such file, so it starts a shell that does; values in it are quoted as for systemd."""
    file = tmp_path / "the env"
    file.write_text("PLAIN=1\nQUOTED='p$w&rd #1'\n")
    words = [sys.executable, "-c", "import os; print(os.environ['PLAIN'], os.environ['QUOTED'])"]
    program = parsed(server_section(service(argv=words, environment_file=file)), tmp_path)
    done = subprocess.run(shlex.split(program.command), capture_output=True, text=True, check=True)
    assert done.stdout == "1 p$w&rd #1\n"
    assert (program.stopasgroup, program.killasgroup) == (True, True)


def test_a_server_under_systemd_is_started_again_however_it_ends() -> None:
    lines = server_unit(service(user="prefect", environment_file=Path("/etc/the env"))).splitlines()
    for line in ("EnvironmentFile=/etc/the env", "Restart=always", "User=prefect", "StartLimitIntervalSec=0"):
        assert line in lines
