"""Flows that ask for what would undo their isolation: code that runs outside, or a way to what is covered.

A run is refused, or has what it asks for inside. Which of them is not looked at: only what its author gains.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from flowherd.client.flow_document import command_storage, python_storage
from tests.hostile.attack_scene import Scene, scene
from tests.hostile.attack_stage import ORDINARY, ROOT
from tests.support.leftovers import none_left
from tests.support.unprivileged import needs_compiler, needs_root, needs_setpriv
from tests.support.waiting import wait_until

pytestmark = [needs_root, needs_setpriv, needs_compiler, pytest.mark.timeout(120)]

PRIVATE = {"level": "private"}
_LEAK = "what only flowherd may read"
#: Says in which namespace it is loaded.
_LIBRARY = """
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void say(void) {
    char text[64];
    int size = readlink("/proc/self/ns/pid", text, 63);
    int fd = open(FILE_NAME, O_WRONLY | O_CREAT | O_APPEND, 0666);
    text[size] = '\\n';
    if (write(fd, text, size + 1)) {}
    close(fd);
}
"""


@pytest.fixture(
    scope="module", params=[ORDINARY, pytest.param(ROOT, marks=pytest.mark.full)], ids=lambda who: str(who.name)
)
def attacked(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with none_left(), scene(request.param) as found:
        leak = found.command.home / "leak.env"
        leak.write_text(f"LEAK={_LEAK}\n")
        (found.work / "link.env").symlink_to(leak)
        (found.work / "linked").symlink_to(found.command.home)
        uid = found.stage.who.agent_uid
        for path in (leak, found.work / "link.env", found.work / "linked"):
            os.chown(path, uid, uid, follow_symlinks=False)
        yield found


def outside() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def run(attacked: Scene, name: str, working_dir: str | None = None, **config: Any) -> dict[str, Any]:
    """Run the program that looks around; return what it found, nothing if it was not started."""
    program = attacked.stage.place / "programs" / "probe.py"
    isolation = {**PRIVATE, **config.pop("isolation", {})}
    paths = [str(attacked.command.home), *isolation.get("write", [])]
    storage = command_storage([sys.executable, str(program), str(attacked.work), name, *paths])
    run_id = attacked.start(name, storage, isolation, working_dir=working_dir, config=config)
    assert attacked.end_of(run_id).state in ("Success", "Failed")
    path = attacked.work / f"{name}.found"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def ways_to_the_home(attacked: Scene) -> Mapping[str, dict[str, Any]]:
    """Return what a flow's settings name, by a name for each."""
    home, work = str(attacked.command.home), attacked.work
    agent, again = attacked.agent_pid, attacked.stage.again
    return {
        "the home as working directory": {"working_dir": home},
        "a directory in the home as working directory": {"working_dir": f"{home}/agents"},
        "a link as working directory": {"working_dir": str(work / "linked")},
        "a link in the working directory's path": {"working_dir": str(work / "linked" / "agents" / "..")},
        "the home by another process's root": {"working_dir": f"/proc/{agent}/root{home}"},
        "the home by its own root": {"working_dir": f"/proc/self/root{home}"},
        "the home among what it writes": {"isolation": {"level": "sealed", "write": [home]}},
        "a link among what it writes": {"isolation": {"level": "sealed", "write": [str(work / "linked")]}},
        "everything among what it writes": {"isolation": {"level": "sealed", "write": ["/"]}},
        "a file of the home with variables": {"env_files": [f"{home}/leak.env"]},
        "a link to that file": {"env_files": [str(work / "link.env")]},
        "that file by a process's root": {"env_files": [f"/proc/self/root{home}/leak.env"]},
        "that file by the agent's root": {"env_files": [f"/proc/{agent}/root{home}/leak.env"]},
        "that file as a secret": {"secrets": {"LEAK": f"file:{home}/leak.env"}},
        "a link to that file as a secret": {"secrets": {"LEAK": f"file:{work}/link.env"}},
        "that file by a path with dots": {"secrets": {"LEAK": f"file:{work}/../flowherd/leak.env"}},
        "that file by another mount as a secret": {"secrets": {"LEAK": f"file:{again}/flowherd/leak.env"}},
        "that file by another mount": {"env_files": [f"{again}/flowherd/leak.env"]},
        "a descriptor of its runner": {"secrets": {"LEAK": "file:/proc/self/environ"}},
        "the home as a path for imports": {"env": {"PYTHONPATH": home}},
    }


def test_no_setting_of_a_flow_leads_to_flowherds_home(attacked: Scene) -> None:
    ways = ways_to_the_home(attacked)
    gained = {}
    for number, (what, settings) in enumerate(ways.items()):
        found = run(attacked, f"way-{number}", **settings)
        if "leak.env" in found.get("home", []) or found.get("leak"):
            gained[what] = found
    assert gained == {}


def test_no_setting_of_a_flow_shows_it_the_hosts_processes(attacked: Scene) -> None:
    """Where the host's /proc is mounted once more, such a directory leads past all that is covered."""
    agent = str(attacked.stage.second_proc / str(attacked.agent_pid))
    by_writing = {"isolation": {"level": "sealed", "write": [agent]}}
    for name, settings in {"processes-1": {"working_dir": agent}, "processes-2": by_writing}.items():
        assert "cmdline" not in run(attacked, name, **settings).get("home", []), settings


def evil_interpreter(attacked: Scene, file: Path) -> dict[str, Any]:
    program = attacked.work / "python"
    program.write_text(f'#!/bin/sh\nreadlink /proc/self/ns/pid >> {file}\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return {"interpreter": str(program)}


def evil_library(attacked: Scene, file: Path) -> dict[str, Any]:
    library, source = attacked.work / "evil.so", attacked.work / "evil.c"
    source.write_text(_LIBRARY)
    options = [f'-DFILE_NAME="{file}"', "-shared", "-fPIC"]
    subprocess.run(["gcc", *options, "-o", library, source], check=True)
    return {"env": {"LD_PRELOAD": str(library)}}


@pytest.mark.parametrize("settings", [evil_interpreter, evil_library])
def test_no_setting_of_a_flow_has_its_code_run_outside(
    attacked: Scene, settings: Callable[[Scene, Path], dict[str, Any]]
) -> None:
    """In the fork itself, whose fork server and runner are outside."""
    name = settings.__name__
    file = attacked.work / f"{name}.ran"
    file.touch(mode=0o666)
    file.chmod(0o666)
    program = attacked.stage.place / "programs" / "probe.py"
    storage = python_storage(f"{program}:main", Path("/"))
    given = {"place": str(attacked.work), "name": name, "home": str(attacked.command.home)}
    run_id = attacked.start(name, storage, PRIVATE, config=settings(attacked, file), **given)
    assert attacked.end_of(run_id).state in ("Success", "Failed")
    wait_until(lambda: not (attacked.state_dir / "runs" / run_id).exists(), what=lambda: attacked.describe(run_id))
    assert outside() not in file.read_text(), attacked.describe(run_id)
