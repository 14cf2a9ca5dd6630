"""Flows of an isolated run that try to outlive it, to forge its end, or to leave something behind."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
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


@pytest.fixture(
    scope="module", params=[ORDINARY, pytest.param(ROOT, marks=pytest.mark.full)], ids=lambda who: str(who.name)
)
def attacked(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with none_left(), scene(request.param) as found:
        yield found


def start(attacked: Scene, what: str, isolation: dict[str, Any]) -> str:
    program = attacked.stage.place / "programs" / "ends.py"
    storage = python_storage(f"{program}:main", Path("/"))
    return attacked.start(what, storage, isolation, what=what, place=str(attacked.work))


@contextmanager
def agent_is_stopped(attacked: Scene) -> Iterator[None]:
    os.kill(attacked.agent_pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(attacked.agent_pid, signal.SIGCONT)


def test_the_kernel_alone_ends_a_daemon_when_its_runner_is_killed(attacked: Scene) -> None:
    """The agent is stopped, so that nothing but the end of the namespace can end it."""
    fifo = attacked.work / "fifo"
    os.mkfifo(fifo, 0o666)
    fifo.chmod(0o666)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        run_id = start(attacked, "daemon", PRIVATE)
        wait_until((attacked.work / "daemon-lives").exists, what=lambda: attacked.describe(run_id))
        assert select.select([reader], [], [], 0)[0] == [], "the daemon has it open"
        with agent_is_stopped(attacked):
            os.kill(attacked.started(run_id)["pid"], signal.SIGKILL)
            readable, _, _ = select.select([reader], [], [], 20)
            assert readable and os.read(reader, 1) == b"", "the daemon lives on"
    finally:
        os.close(reader)
        fifo.unlink()
    assert attacked.end_of(run_id).state == "Failed"


def test_a_run_that_kills_all_it_can_reach_kills_itself_alone(attacked: Scene) -> None:
    run_id = start(attacked, "kill_all", PRIVATE)
    assert attacked.end_of(run_id).state == "Failed"
    assert (attacked.work / "killed-all").exists()
    assert attacked.bystander.look()["signals"] is not None
    assert attacked.started(attacked.neighbour)


def test_what_is_in_force_is_not_believed_after_the_users_code_has_begun(attacked: Scene) -> None:
    run_id = start(attacked, "messages", PRIVATE)
    place = attacked.state_dir / "runs" / run_id / "started"
    found: dict[str, Any] = {}

    def look() -> bool:
        if place.exists():
            found.update(json.loads(place.read_text()))
        return not place.exists() and bool(found)

    wait_until(look, what=lambda: attacked.describe(run_id))
    assert attacked.end_of(run_id).state == "Success"
    assert found["isolation"]["level"] == "private" and "forged" not in found["isolation"]["proved"]
    assert "sent" in attacked.log(run_id)


def test_children_that_a_flow_makes_for_its_runner_change_nothing(attacked: Scene) -> None:
    run_id = start(attacked, "sibling", PRIVATE)
    assert attacked.end_of(run_id).state == "Success"
    assert "two siblings" in attacked.log(run_id)


def test_nothing_of_a_runs_own_tmp_is_left_and_no_link_in_it_is_followed(attacked: Scene) -> None:
    (attacked.work / "stays").write_text("")
    run_id = start(attacked, "closed_trees", PRIVATE)
    assert attacked.end_of(run_id).state == "Success"
    wait_until(lambda: not (attacked.state_dir / "runs" / run_id).exists(), what=lambda: attacked.describe(run_id))
    assert "tree" in json.loads((attacked.work / "left").read_text())
    assert (attacked.work / "stays").exists()
    assert not Path("/tmp/tree").exists()


def test_a_working_directory_that_has_become_a_link_to_flowherds_home_is_refused(attacked: Scene) -> None:
    """An earlier run of the flow has changed it, so the agent and the registration saw another one."""
    place = attacked.work / "replaced"
    place.symlink_to(attacked.command.home)
    run_id = attacked.start("replaced", command_storage(["cat", "server.token"]), PRIVATE, working_dir=str(place))
    assert attacked.end_of(run_id).state == "Failed"
    assert attacked.token not in " ".join(attacked.log(run_id))
    assert "its working directory" in " ".join(attacked.log(run_id))
