"""A fork server notices that a file which it has loaded has changed, and refuses a run that asks for a fresh one."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.runner import ForkServer

StartForkServer = Callable[..., ForkServer]


def edit_in_place(place: Path) -> Path:
    with (place / "current/package/part.py").open("r+") as file:
        file.write("VALUE = 2")
    return place / "current/package/part.py"


def replace_by_rename(place: Path) -> Path:
    (place / "new").write_text("VALUE = 1")
    (place / "new").rename(place / "current/package/part.py")
    return place / "current/package/part.py"


def replace_the_package(place: Path) -> Path:
    """As pip does it: the old directory is moved away, the new one put in its place."""
    package = place / "current/package"
    package.rename(place / "~ackage")
    shutil.copytree(place / "~ackage", package)
    return package / "part.py"


def change_the_link(place: Path) -> Path:
    """As deployments do it: a link to the directory of a release gets another target."""
    shutil.copytree(place / "release-1", place / "release-2")
    (place / "link").symlink_to("release-2")
    (place / "link").rename(place / "current")
    return place / "current/package/part.py"


def change_the_environment(place: Path) -> Path:
    with (place / "venv/pyvenv.cfg").open("a") as file:
        file.write("\n")
    return place / "venv/pyvenv.cfg"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A package in a release that a link leads to, and the least virtual environment."""
    (tmp_path / "release-1/package").mkdir(parents=True)
    (tmp_path / "current").symlink_to("release-1")
    (tmp_path / "release-1/package/__init__.py").write_text("from package import part")
    (tmp_path / "release-1/package/part.py").write_text("VALUE = 1")
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").symlink_to(sys.executable)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", tmp_path / "venv")
    return tmp_path


def answer_to_a_run(server: ForkServer, **request: Any) -> dict[str, Any]:
    run = server.prepare("command", {"argv": ["true"]})
    answer = server.ask(run, **request)
    if answer["op"] == "started":
        run.wait()
    return answer


@pytest.mark.parametrize(
    "change", [edit_in_place, replace_by_rename, replace_the_package, change_the_link, change_the_environment]
)
def test_a_change_of_a_loaded_file_is_reported_and_holds_no_run_back(
    start_fork_server: StartForkServer, place: Path, change: Callable[[Path], Path]
) -> None:
    python = str(place / "venv/bin/python")
    env = {"PYTHONPATH": str(place / "current"), "PYTHONDONTWRITEBYTECODE": ""}
    server = start_fork_server(python, preload=["package"], env=env)
    going = server.command("sh", "-c", "echo ready; while [ ! -e go ]; do sleep 0.01; done")
    going.wait_for_line("ready")
    (place / "current/package/other.py").write_text("")  # not loaded
    (place / "release-1/package/__pycache__").mkdir(exist_ok=True)
    assert answer_to_a_run(server, if_fresh=True)["op"] == "started"
    changed = change(place)
    answer = answer_to_a_run(server, if_fresh=True)
    assert (answer["op"], answer["stale"]) == ("refused", True)
    assert server.stale == [answer["error"].removesuffix(" has changed")]
    assert Path(server.stale[0]) == changed
    # An agent of 0.1.0 does not ask for a fresh one, and running runs go on.
    assert answer_to_a_run(server)["op"] == "started"
    (going.directory / "work/go").touch()
    assert going.wait()["exit_code"] == 0


def test_a_module_that_could_not_be_preloaded_counts_as_changed_when_it_appears(
    start_fork_server: StartForkServer, tmp_path: Path
) -> None:
    server = start_fork_server(preload=["late.part"], env={"PYTHONPATH": str(tmp_path)})
    assert list(server.ready["failed"]) == ["late.part"]
    (tmp_path / "unrelated").mkdir()
    assert answer_to_a_run(server, if_fresh=True)["op"] == "started"
    (tmp_path / "late").mkdir()
    assert answer_to_a_run(server, if_fresh=True).get("stale")


def test_a_module_that_was_refused_counts_as_changed_when_it_is_corrected(
    start_fork_server: StartForkServer, tmp_path: Path
) -> None:
    (tmp_path / "pipes.py").write_text("import os\nR, W = os.pipe()")
    server = start_fork_server(preload=["pipes"], env={"PYTHONPATH": str(tmp_path)})
    assert server.ready["refused"] == {"pipes": "pipe"}
    (tmp_path / "pipes.py").write_text("")
    assert answer_to_a_run(server, if_fresh=True).get("stale")
