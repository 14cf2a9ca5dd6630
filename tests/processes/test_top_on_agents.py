"""`flowherd top` on the agents of a host alone: over their sockets and from their run directories."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.cli.top.agents_source import AgentsSource
from flowherd.cli.top.server_source import ServerSource
from flowherd.client.user_client import UserClient
from flowherd.config import load_settings
from tests.support.commands import READY, CommandLine, background
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server
from tests.support.terminal import on_terminal
from tests.support.top_screens import Screen, before

_WORK = "echo begins; sh -c 'sleep 3600' & i=0; while :; do i=$((i+1)); echo step $i; sleep 0.2; done"


@dataclass(frozen=True)
class Stage:
    """A server, an agent that keeps its run directories, and a run of each sort."""

    server: ServerProcess
    command: CommandLine
    going: str
    failed: str


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    place = tmp_path_factory.mktemp("top")
    with none_left(), running_server(place / "data") as server:
        command = CommandLine(server.home, {"FLOWHERD__RUNS__KEEP": "3600"})
        command("register", "works", "--memory", "500M", "--command", "--", "sh", "-c", _WORK)
        command("register", "fails", "--command", "--", "sh", "-c", "echo oh >&2; exit 3")
        with background(command, "start", "-n", "barn", "--limit", "4", until=READY):
            going, failed = command.run("works"), command.run("fails", "-p", "day=monday")
            command.wait_for_ends([failed])
            yield Stage(server, command, going, failed)
            command("cancel", going)
            command.wait_for_ends([going])


def on_agents(stage: Stage, monkeypatch: pytest.MonkeyPatch, person: Callable[[Screen], Awaitable[None]]) -> None:
    monkeypatch.setenv("FLOWHERD_HOME", str(stage.command.home))
    before(AgentsSource(load_settings()), person)


def test_runs_have_figures_logs_processes_and_a_story(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def person(screen: Screen) -> None:
        await screen.shows("● Running", "works", "500M", "1/4", "✕ Failed")
        await screen.goes_to(stage.going)
        await screen.press("l")
        await screen.shows("stdout    step ")
        before = screen.text
        await screen.until(lambda: screen.text != before)
        await screen.press("3")
        await screen.shows("sleep 3600", "└─ ")
        await screen.press("escape")
        await screen.goes_to(stage.failed)
        await screen.press("e")
        await screen.shows("exited with code 3", "proven", "started", "process ended")
        await screen.press("1")
        await screen.shows("stderr    oh")
        await screen.press("4")
        await screen.shows("directory", stage.failed)

    on_agents(stage, monkeypatch, person)


def test_an_agent_is_paused_and_resumed_after_a_question(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def person(screen: Screen) -> None:
        await screen.shows("1/4")
        await screen.press("a", "p")
        await screen.shows("Pause barn?", "Its present runs go on.")
        await screen.press("enter")
        await screen.shows("barn is paused")
        await screen.press("p")
        await screen.shows("Resume barn?")
        await screen.press("enter")
        await screen.shows("barn claims runs again")

    on_agents(stage, monkeypatch, person)


def test_an_agent_of_another_host_is_asked_over_the_server(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLOWHERD_HOME", str(tmp_path))  # a home without agents, as on another host

    async def person(screen: Screen) -> None:
        await screen.shows("works", "500M")
        await screen.press("a", "p", "enter")
        await screen.shows("barn is paused")
        await screen.until(lambda: "paused" in screen.lines[3])
        await screen.press("p", "enter")
        await screen.shows("barn claims runs again")

    before(ServerSource(UserClient(GraphQLTransport(stage.server.url)), load_settings()), person)


def test_cancelling_is_left_to_the_server_and_says_how(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def person(screen: Screen) -> None:
        await screen.goes_to(stage.going)
        await screen.press("c", "enter")
        await screen.shows(f"flowherd cancel {stage.going[:8]}")

    on_agents(stage, monkeypatch, person)


def test_for_a_work_pool_the_agents_of_this_host_are_asked(stage: Stage) -> None:
    pool = CommandLine(stage.command.home, {"FLOWHERD__PREFECT3__POOL": "pool"})
    with on_terminal(pool, "top", width=100) as terminal:
        terminal.read_until(lambda raw: stage.going[:8] in raw and "barn" in raw)
        terminal.write("q")
        assert terminal.end() == 0


def test_the_picture_goes_on_while_the_backend_is_away(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def person(screen: Screen) -> None:
        await screen.goes_to(stage.going)
        stage.server.stop()
        await screen.press("l")
        await screen.shows("stdout    step ")
        before = screen.text
        await screen.until(lambda: screen.text != before)
        assert "no answer" not in screen.text
        stage.server.start()

    on_agents(stage, monkeypatch, person)
