"""README's two set-up commands and its example, taken from it word for word, and the built wheel."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.commands import READY, CommandLine, background

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.slow


def shell_blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files in git, without anything that was built or installed."""
    place = tmp_path / "checkout"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    return place


def test_ci_runs_the_readmes_test_command_and_requires_all_peers() -> None:
    command = shell_blocks()[1].strip()
    assert "\n" not in command
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert "export FLOWHERD_REQUIRE_PEERS=1" in lines[: lines.index(command)]


@pytest.mark.timeout(600)
def test_the_first_command_goes_from_nothing_to_a_demo_that_leaves_nothing_behind(
    checkout: Path, tmp_path: Path
) -> None:
    command = shell_blocks()[0].strip()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    # Without the virtual environment that runs these tests.
    path = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if Path(p) != Path(sys.executable).parent)
    env = {**os.environ, "TMPDIR": str(temporary), "PATH": path}
    done = subprocess.run(
        ["sh", "-c", command], cwd=checkout, env=env, capture_output=True, text=True, timeout=580, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("as it should") == 6
    assert list(temporary.iterdir()) == []


def test_the_five_lines_do_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line starts the agent in the background; a shell runs the others as they stand."""
    lines = shell_blocks()[2].strip().splitlines()
    assert lines[0].startswith("flowherd start &")
    home = tmp_path / "home"
    home.mkdir()
    command = CommandLine(home, {"FLOWHERD__SERVER__BIND_PORT": "0"})
    shim = tmp_path / "bin" / "flowherd"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m flowherd "$@"\n')
    shim.chmod(0o755)
    env = {**command.environment(), "PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}"}
    with background(command, "start", until=READY):
        done = subprocess.run(
            ["sh", "-ec", "\n".join(lines[1:])], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hello world" in done.stdout
    assert "Success" in done.stdout


def test_the_wheel_holds_both_sides_and_conf_and_works_where_it_is_unpacked(checkout: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(wheels), str(checkout)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "unpacked")
    conf = {str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*") if path.suffix in (".toml", ".conf")}
    assert {f"flowherd/{name}" for name in conf} <= names
    assert {"flowherd_runner/boot.py", "flowherd/py.typed"} <= names
    assert not any(name.startswith(("supervisor/", "tests/")) for name in names)
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "unpacked")}
    shown = subprocess.run(
        [sys.executable, "-c", "import flowherd.config.conf_files as c; print(c.conf_directory())"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert shown == str(tmp_path / "unpacked" / "flowherd" / "conf")


def test_the_settings_table_names_only_settings_that_exist() -> None:
    from flowherd.config.catalogue import LEAVES

    table = README.split("| setting |")[1].split("\n\n")[0]
    for row in table.splitlines()[2:]:
        for name in re.findall(r"`([a-z_.*]+)`", row.split("|")[1]):
            assert name in LEAVES or name.removesuffix("*") in {leaf.rpartition(".")[0] + "." for leaf in LEAVES}, name


def test_a_default_flow_carries_this_hosts_label(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = CommandLine(home)
    with background(command, "server", "--port", "0", until="ready at"):
        assert command.json("register", "x", "--command", "--", "true")["labels"] == [socket.gethostname()]
