"""Standard streams that are closed, umasks, and users without a home: what a program finds when it is started oddly."""

from __future__ import annotations

import itertools
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flowherd.config import load_settings
from flowherd.errors import ConfigurationError
from flowherd.private_directory import make_private_directory
from tests.support.commands import FLOWHERD, READY, CommandLine
from tests.support.waiting import wait_until

#: Prints what the descriptors 0 to 2 are after the call, into a file that is opened after it.
_PROGRAM = """
import os, sys
from flowherd.standard_streams import open_missing_streams
open_missing_streams()
file = open(sys.argv[1], "w")
print("out"); print("err", file=sys.stderr)
for fd in (0, 1, 2):
    print(os.readlink(f"/proc/self/fd/{fd}"), os.get_inheritable(fd), file=file)
print(file.fileno() > 2, file=file)
"""


@pytest.mark.parametrize(
    "closed", [c for n in (1, 2, 3) for c in itertools.combinations((0, 1, 2), n)], ids=lambda c: "".join(map(str, c))
)
def test_closed_standard_streams_are_dev_null(closed: tuple[int, ...], tmp_path: Path) -> None:
    words = " ".join(f"{fd}>&-" for fd in closed)
    shell = ["sh", "-c", f'exec "$@" {words}', "sh"]
    subprocess.run([*shell, sys.executable, "-c", _PROGRAM, str(tmp_path / "told")], timeout=30, check=True)
    lines = (tmp_path / "told").read_text().splitlines()
    assert [lines[fd] for fd in closed] == ["/dev/null True"] * len(closed)
    assert lines[3] == "True"


def test_an_agent_starts_and_runs_flows_without_any_standard_stream(tmp_path: Path) -> None:
    """b25, with the embedded server beside it. Everything of flowherd's is private, although the umask is 000."""
    home = tmp_path / "above" / "home"
    log = tmp_path / "log"
    command = CommandLine(home, {"FLOWHERD__SERVER__BIND_PORT": "0"})
    shell = ["sh", "-c", 'umask 000; exec "$@" 0<&- 1>&- 2>&-', "sh"]
    argv = [*shell, *FLOWHERD, "start", "--on-stop", "cancel", "--log-file", str(log)]
    agent = subprocess.Popen(argv, env=command.environment())
    try:
        wait_until(lambda: log.exists() and READY in log.read_text(), timeout_s=40)
        command("register", "hello", "--command", "--", "sh", "-c", "umask; read line || echo no input")
        done = command("run", "hello", "--wait")
        assert "0000" in done.stdout
        assert "no input" in done.stdout
        agent.terminate()
        assert agent.wait(20) == 0
    finally:
        agent.kill()
        agent.wait()
    loose = [path for path in (home.parent, *home.parent.rglob("*")) if _mode(path) & 0o077]
    assert loose == []
    assert not _mode(log) & 0o022


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_directories_above_a_private_one_are_private_too(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private_directory(tmp_path / "a" / "b", "directory")
        make_private_directory(tmp_path / "a" / "b", "directory")
    finally:
        os.umask(before)
    assert [_mode(tmp_path / "a"), _mode(tmp_path / "a" / "b")] == [0o700, 0o700]


@pytest.fixture
def nobody_knows_this_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("HOME")


@pytest.mark.usefixtures("nobody_knows_this_user")
def test_a_user_without_home_and_password_entry_works_with_flowherd_home(tmp_path: Path) -> None:
    loaded = load_settings(environ={"FLOWHERD_HOME": str(tmp_path)})
    assert loaded.paths.state_dir == tmp_path / "agents" / "agent"


@pytest.mark.usefixtures("nobody_knows_this_user")
def test_a_user_without_home_and_password_entry_is_told_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="set FLOWHERD_HOME"):
        load_settings(environ={})
    with pytest.raises(ConfigurationError, match="no home directory is known"):
        load_settings(environ={"FLOWHERD_HOME": "~/flowherd"})
