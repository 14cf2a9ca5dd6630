"""Programs that flows use work at each level of isolation, or fail, as the table in the documentation says."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.acceptance.program_table import COLUMNS, LEVELS, ROWS, SLOW, table
from tests.hostile.attack_stage import ORDINARY, ROOT, Stage, Who, stage
from tests.peers.environments import CACHE, REQUIRED, Unavailable, is_complete, locked, make_environment
from tests.support.runner import ForkServer, Run
from tests.support.unprivileged import needs_compiler, needs_root, needs_setpriv, set_uid_program

pytestmark = [pytest.mark.usefixtures("no_process_left"), needs_root, needs_setpriv, needs_compiler]

_PROGRAM = Path(__file__).with_name("programs_in_runs.py")
_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "isolated-programs.md"
#: setuptools is what pip builds a package with.
_PACKAGES = ("numpy==2.4.6", "pandas==2.3.3", "matplotlib==3.11.2", "setuptools==80.9.0")
_PROGRAMS = ("bash", "git", "tmux", "ssh-agent", "ssh-keygen", "unshare", "strace", "top")


def missing_programs() -> list[str]:
    return [name for name in _PROGRAMS if shutil.which(name) is None]


def packages() -> Path:
    """Return the directory with numpy and pandas, which are fetched once."""
    digest = hashlib.sha256(" ".join((sys.version, *_PACKAGES)).encode()).hexdigest()[:12]
    directory = CACHE / f"programs-{digest}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(directory.with_name(directory.name + ".lock")):
        try:
            if not is_complete(directory):
                make_environment(directory, Path(sys.executable), *_PACKAGES)
        except Unavailable as error:
            if REQUIRED:
                raise
            pytest.skip(str(error))
    return next(directory.glob("lib/python3*/site-packages"))


def start(server: ForkServer, scene: Stage, level: str, names: list[str], reachable_packages: Path, port: int) -> Run:
    """Start a run that tries these programs, in a home and a working directory of its own."""
    uid = scene.who.flow_uid
    home, work = (scene.directory(f"{name} {level}", uid) for name in ("home", "work"))
    program = scene.place / _PROGRAM.name
    like_sudo = str(scene.place / "like-sudo")
    run = server.prepare(
        "command",
        {"argv": [sys.executable, str(program), str(reachable_packages), *names]},
        env={"HOME": str(home), "LIKE_SUDO": like_sudo, "PYTHONPATH": "", "SERVER_PORT": str(port)},
        working_dir=str(work),
        isolation={**COLUMNS[level], "covered": [str(server.runs_directory)]},
    )
    (run.directory / "lock").touch(mode=0o600)
    for path in (run.directory, *run.directory.iterdir()):
        os.chown(path, uid, uid)
    return server.start(run)


def tried(who: Who, names: list[str], levels: Sequence[str], packages: Path | None) -> dict[tuple[str, str], str]:
    """Return by level and check what went wrong."""
    found = {}
    with stage(who) as scene, socket.create_server(("127.0.0.1", 0)) as of_host:
        shutil.copy(_PROGRAM, scene.place)
        set_uid_program(scene.place)
        here = scene.place / "packages"
        if packages is not None:
            shutil.copytree(packages, here)
        for level in levels:
            runs = scene.directory(f"runs {level}", who.agent_uid)
            server = ForkServer(sys.executable, runs, prefix=scene.as_user(who.agent_uid), apart=level != "none")
            try:
                run = start(server, scene, level, names, here, of_host.getsockname()[1])
                assert run.wait(240)["reason"] == "exited", run.describe()
                (line,) = run.lines("stdout")
                found.update({(level, name): wrong for name, wrong in json.loads(line).items()})
            finally:
                server.close()
    return found


def check(who: Who, names: list[str], levels: Sequence[str], packages: Path | None = None) -> None:
    letter = "O" if who is ORDINARY else "R"
    found = tried(who, names, levels, packages)
    wrong = {
        f"{level} {row.name}": found[level, row.name] or "it works"
        for row in ROWS
        if row.name in names
        for level in levels
        if row.works(letter, level) != (found[level, row.name] == "")
    }
    assert wrong == {}


_ALL_OF_ROOT = pytest.param(ROOT, LEVELS, marks=pytest.mark.full, id="root")
_OTHERS = pytest.param(ORDINARY, ("none", "private"), marks=pytest.mark.full, id="ordinary, not sealed")


@pytest.mark.timeout(600)  # a program that waits in vain is to be named, not cut off
@pytest.mark.skipif(bool(missing_programs()), reason=f"there is no {missing_programs()}")
@pytest.mark.parametrize(
    ("who", "levels"), [pytest.param(ORDINARY, ("sealed", "no network"), id="sealed"), _OTHERS, _ALL_OF_ROOT]
)
def test_programs_work_at_each_level_as_the_table_says(who: Who, levels: tuple[str, ...]) -> None:
    check(who, [row.name for row in ROWS if row.name not in SLOW], levels)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
@pytest.mark.parametrize("who", [ORDINARY, ROOT], ids=lambda who: who.name)
def test_packages_work_and_are_installed_at_each_level(who: Who) -> None:
    check(who, list(SLOW), LEVELS, packages())


def test_the_page_has_the_table() -> None:
    text = _PAGE.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("|")] == list(table())
