"""The agent's own pages: its host and its runs, from memory and run directories, and what it is asked there."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from html import unescape
from typing import Any

import pytest
import requests

from flowherd import FlowRun, LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.errors import BackendUnavailable
from tests.processes.server.test_pages import fields_of
from tests.support.agents import going, wait_for_end
from tests.support.leftovers import none_left
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

EVIL = "<script>alert(1)</script>\x1b[31mred\u202e"
#: The begin of its line in the log.
SAID = '<span class="say">&lt;script&gt;alert(1)&lt;/script&gt;'
#: Writes a line, shows itself as a process, and waits to be ended.
WAITS = {"type": "Command", "argv": ["sh", "-c", "printf '%s\\n' \"$0\"; sleep 100 & wait", EVIL]}
FAILS = {"type": "Command", "argv": ["sh", "-c", "echo last words; exit 3"]}


class Leaving(MemoryBackend):
    """A backend that can be away."""

    is_away = False

    def connect(self) -> Any:
        if self.is_away:
            raise BackendUnavailable("it is away")
        return super().connect()

    def ready_runs(self, labels: Sequence[str], exclude: Collection[str] = ()) -> list[FlowRun]:
        if self.is_away:
            raise BackendUnavailable("it is away")
        return super().ready_runs(labels, exclude)


class World:
    """An agent with pages, and its backend."""

    def __init__(self, agent: LocalAgent, backend: Leaving, token: str = "") -> None:
        self.agent, self.backend = agent, backend
        self.address: str = wait_until(lambda: agent.api_address, what="its address")
        self.auth = ("anybody", token) if token else None

    def get(self, path: str, status: int = 200, **more: Any) -> str:
        answer = requests.get(self.address + path, timeout=30, **{"auth": self.auth, **more})
        assert answer.status_code == status, answer.text
        return answer.text

    def send(self, path: str, **more: Any) -> requests.Response:
        """Answer a question with yes."""
        form = fields_of(self.get(path))
        return requests.post(self.address + path, data=form, timeout=30, **{"auth": self.auth, **more})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def world(home: Any) -> Iterator[World]:
    backend = Leaving()
    settings = load_settings({"home": str(home), "runs.keep": 3600})
    with (
        none_left(),
        going(LocalAgent(backend=backend, settings=settings, agent_address="http://127.0.0.1:0")) as agent,
    ):
        yield World(agent, backend)


def run(world: World, storage: dict[str, Any], **more: Any) -> str:
    return world.backend.add_run(storage, labels=world.agent.labels, **more)


def test_a_run_is_followed_from_its_start_to_its_end_while_the_backend_is_away(world: World) -> None:
    run_id = run(world, WAITS, name=EVIL, parameters={"password": "hunter2", "day": "today"})
    path = f"/runs/{run_id}"
    wait_until(lambda: "sleep 100" in (world.get(path) if path in world.get("/") else ""), what="its processes")
    world.backend.is_away = True
    try:
        text = wait_until(lambda: found if SAID in (found := world.get(path)) else None, what="its line")
        assert ("<script>alert" in text, "\u202e" in text, "\x1b" in text) == (False, False, False)
        assert f"{SAID}<" in text, "a colour begins a new element"
        assert ("hunter2" in text, "today" in text) == (False, True)
        told = unescape(re.sub("<[^>]*>", " ", text))
        for words in ("Running for", "started", "Peak memory", "Processes"):
            assert words in told, words
        assert not re.search(r"\sstyle=|<style|<script>|\son[a-z]+=", text)
        assert "alert(1)" in world.get(f"{path}/log")
        assert f"/runs/{run_id}" in world.get("/")
    finally:
        world.backend.is_away = False
    world.backend.cancel(run_id)
    wait_for_end(world.backend, run_id)
    wait_until(lambda: "Cancelled" in world.get(path), what="its end")


def test_an_ended_run_is_there_with_its_cause_also_for_the_next_agent(world: World, home: Any) -> None:
    run_id = run(world, FAILS)
    wait_for_end(world.backend, run_id)
    wait_until(lambda: f"/runs/{run_id}" in world.get("/"), what="its row")

    def is_told(text: str) -> bool:
        return all(words in text for words in ("exited with code 3", "proven", "last words", "process ended"))

    wait_until(lambda: is_told(world.get(f"/runs/{run_id}")), what="its end")
    world.agent._own_host._registry.gone.clear()
    assert is_told(world.get(f"/runs/{run_id}")), "from its directory alone"
    assert f"/runs/{run_id}" in world.get("/")
    for unknown in ("x", "00000000-0000-4000-8000-000000000000"):
        assert "This host has no such run" in unescape(world.get(f"/runs/{unknown}", 404))


def test_the_agent_is_paused_and_resumed_by_its_questions(world: World) -> None:
    assert "claims nothing until it is resumed" in world.get("/pause")
    assert not world.agent.control.paused
    assert "The agent is paused." in world.send("/pause").text
    assert world.agent.control.paused
    assert "Resume…" in world.get("/")
    assert "The agent is resumed." in world.send("/resume").text
    assert not world.agent.control.paused


def test_without_a_token_it_is_neither_drained_nor_restarted_here(world: World) -> None:
    assert "Drain…" not in world.get("/")
    for path in ("/drain", "/restart"):
        answer = world.send(path)
        assert (answer.status_code, "agent.api_token" in answer.text) == (400, True)
    assert world.agent.control.shutdown_request is None


def test_pages_of_others_and_forms_without_their_token_change_nothing(world: World) -> None:
    form = fields_of(world.get("/pause"))
    for headers, data, status in (
        ({"Origin": "https://evil.example"}, form, 403),
        ({}, {**form, "form_token": "x.y"}, 400),
        ({}, {}, 400),
        ({"Host": "evil.example"}, form, 400),
    ):
        answer = requests.post(world.address + "/pause", data=data, headers=headers, timeout=30)
        assert answer.status_code == status
    assert not world.agent.control.paused
    elsewhere = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    world.get("/", 403, headers=elsewhere)
    world.get("/", headers={**elsewhere, "Sec-Fetch-Mode": "navigate"})


def test_with_a_token_the_pages_ask_for_it_and_drain_the_agent(tmp_path: Any) -> None:
    settings = load_settings({"home": str(tmp_path), "agent.api_token": "s3cret"})
    backend = Leaving()
    backend.is_away = True
    agent = LocalAgent(backend=backend, settings=settings, agent_address="http://127.0.0.1:0")
    agent._own_connection.opened_s -= 3600
    with going(agent):
        world = World(agent, backend, "s3cret")
        for wrong in (None, ("x", "wrong")):
            answer = requests.get(world.address, auth=wrong, timeout=30)
            assert (answer.status_code, answer.headers["WWW-Authenticate"][:5]) == (401, "Basic")
            assert requests.post(f"{world.address}/drain", auth=wrong, timeout=30).status_code == 401
        text = world.get("/")
        assert ("Drain…" in text, "No contact" in text) == (True, True)
        assert "does not restart it" in unescape(world.send("/restart").text), "a program has started it"
        assert world.send("/drain", allow_redirects=False).status_code == 303
        wait_until(lambda: agent.control.shutdown_request, what="its stop")
