"""A server whose database is taken away says so, writes nothing more, and ends so that it can be started again."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.support.dialect import Client
from tests.support.server import ServerProcess
from tests.support.small_disk import fill_up, mounted
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

DATABASE = "flowherd.sqlite"
#: EX_IOERR of sysexits.h.
LOST = 74


def overwrite_by_older(data: Path) -> None:
    shutil.copy(data.with_name("backup"), data / DATABASE)


def rename_directory(data: Path) -> None:
    data.rename(data.with_name("elsewhere"))


class Scene:
    """One server that loses its database while a client writes."""

    def __init__(self, place: Path) -> None:
        place.mkdir()
        self.data = place / "data"
        self.server = ServerProcess(self.data, restore_grace=0)
        #: Names of the projects whose creation was acknowledged.
        self.names: list[str] = []
        self.code = 0
        #: The last answer of /health, and the message of the first refused write.
        self.health: requests.Response | None = None
        self.refusal = ""

    def play(self, lose: Callable[[Path], None]) -> None:
        self.server.start()
        client = Client(self.server)
        client.create_run()
        source, target = (sqlite3.connect(name) for name in (self.data / DATABASE, self.data.with_name("backup")))
        with contextlib.closing(source), contextlib.closing(target):
            source.backup(target)
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(self._write, client)
            wait_until(lambda: len(self.names) > 3)
            lose(self.data)
            writing.result()
        wait_until(lambda: self._is_unwell(), what=lambda: self.server.stderr)
        self.code = self.server.wait_for_end()

    def _write(self, client: Client) -> None:
        while not self.refusal:
            name = f"project-{len(self.names)}"
            given = {"input": {"name": name}}
            text = "mutation($input: create_project_input!) { create_project(input: $input) { id } }"
            body = client.answer(text, given).json()
            if "errors" in body:
                self.refusal = body["errors"][0]["message"]
            else:
                self.names.append(name)

    def _is_unwell(self) -> bool:
        self.health = self.server.get("/health")
        return self.health.status_code == 503


@pytest.fixture
def scenes(tmp_path: Path) -> Iterator[dict[str, Scene]]:
    losses = (overwrite_by_older, rename_directory)
    scenes = {lose.__name__: Scene(tmp_path / lose.__name__) for lose in losses}
    with ThreadPoolExecutor(len(losses)) as pool:
        list(pool.map(Scene.play, scenes.values(), losses))
    yield scenes
    for scene in scenes.values():
        if scene.server._process is not None:
            scene.server.stop()


def test_a_lost_database_ends_the_server_which_then_starts_on_what_is_there(scenes: dict[str, Scene]) -> None:
    for name, scene in scenes.items():
        assert scene.refusal.startswith("API_ERROR"), name
        assert scene.health is not None
        assert scene.health.json()["status"] == "database lost", name
        assert DATABASE in scene.health.json()["reason"], name
        assert scene.code == LOST, name
        assert "nothing was written since" in scene.server.stderr, name
        assert "Traceback" not in scene.server.stderr, name

    server = scenes["overwrite_by_older"].server
    server.start()
    answer = Client(server).ask('{ flow_run { id } project(where: {name: {_like: "project-_"}}) { id } }')
    assert len(answer["flow_run"]) == 1
    assert answer["project"] == []
    assert "an older copy" in server.stderr

    moved = scenes["rename_directory"]
    with pytest.raises(AssertionError, match="had a database, and it is gone"):
        moved.server.start()
    shutil.rmtree(moved.data)  # made by the server that was refused, with a lock only
    moved.data.with_name("elsewhere").rename(moved.data)
    moved.server.start()
    # Nothing that was acknowledged before is missing.
    stored = {row["name"] for row in Client(moved.server).ask("{ project { name } }")["project"]}
    assert set(moved.names) <= stored


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    with mounted(tmp_path / "small", "4m") as place:
        yield place


def test_a_full_disk_is_named_and_the_server_goes_on_when_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    server = ServerProcess(small_disk / "data")
    server.home, server._errors = tmp_path / "home", tmp_path / "stderr"
    server.start()
    try:
        client = Client(server)
        agent, run_id = client.agent(), client.create_run()
        ballast = fill_up(small_disk)
        refusals = [client.report_refused(run_id, "Submitted", version=1) for _ in range(2)]
        wake = server.get(f"/agents/{agent.agent_id}/wake", params={"timeout": 0})
        health = server.get("/health")
        assert all(each.startswith("API_ERROR") and "disk is full" in each for each in refusals)
        assert wake.status_code == 200, "waiting writes nothing"
        assert health.status_code == 503
        assert health.json()["status"] == "database not writable"
        assert client.run(run_id)["state"] == "Scheduled", "reading goes on"
        ballast.unlink()
        wait_until(lambda: server.get("/health").status_code == 200)  # without any request that writes
        client.report(run_id, "Submitted", version=1)
        log = wait_until(lambda: server.stderr if "Can write" in server.stderr else "")
        assert log.count("Cannot write") == log.count("Can write") == 1
        assert "Traceback" not in log
        with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        assert server.stop() == 0
        with pytest.raises(AssertionError, match="disk is full"):
            server.start()
    finally:
        if server._process is not None:
            server.stop()
