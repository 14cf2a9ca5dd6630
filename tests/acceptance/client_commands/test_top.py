"""`flowherd top` at a real server: keys of a person by Textual's pilot, and on a terminal of its own."""

from __future__ import annotations

import re
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from flowherd import Client
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.cli.top.server_source import ServerSource
from flowherd.client.user_client import UserClient
from flowherd.config import load_settings
from tests.acceptance.client_commands.helpers import FakeAgent
from tests.support.commands import CommandLine
from tests.support.http_server import Answer, http_server
from tests.support.server import ServerProcess
from tests.support.terminal import on_terminal
from tests.support.top_screens import Screen, before


def top(server: ServerProcess, person: Callable[[Screen], Awaitable[None]]) -> None:
    """Run the program at a server, with this person before it."""
    before(ServerSource(UserClient(GraphQLTransport(server.url)), load_settings()), person)


class Flows:
    """Flows at a server, registered when one is first run, and runs of them that no agent takes."""

    def __init__(self, server: ServerProcess) -> None:
        self._client = Client(api=server.url)
        self._known: set[str] = set()

    def run(self, flow: str, **parameters: str) -> str:
        """Create a run and return its id."""
        if flow not in self._known:
            self._client.register(flow, command=["true"], parameters=parameters, labels=["nobody"])
            self._known.add(flow)
        return self._client.run(flow, parameters=parameters)

    def states(self, flow: str) -> list[str]:
        """Return the states of the runs of a flow."""
        return [run.state for run in self._client.runs(flow=flow)]

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def flows(server: ServerProcess) -> Iterator[Flows]:
    found = Flows(server)
    yield found
    found.close()


def started(flows: Flows, agent: FakeAgent, flow: str) -> str:
    run_id = flows.run(flow)
    agent.state(run_id, "Running", pid=4242)
    return run_id


def test_runs_of_all_groups_are_listed_and_the_current_row_stays_when_others_come(
    server: ServerProcess, flows: Flows, agent: FakeAgent
) -> None:
    going, failed = started(flows, agent, "top-list"), started(flows, agent, "top-list")
    agent.log(going, ("stdout", "page 7 of 240"))
    agent.state(failed, "Failed", "Exit code 3", reason="exited", grade="proven")

    async def person(screen: Screen) -> None:
        await screen.shows("page 7 of 240", "✕ Failed", "Exit code 3")
        await screen.goes_to(failed)
        later = started(flows, agent, "top-list")
        await screen.shows(later[:8])
        assert screen.current == failed
        await screen.resize(120, 40)
        await screen.shows("LAST LINE", f"{failed[:8]}  log")
        assert screen.current == failed

    top(server, person)


def test_marked_runs_are_cancelled_after_a_question_that_names_them(
    server: ServerProcess, flows: Flows, agent: FakeAgent
) -> None:
    first, second = started(flows, agent, "top-cancel"), started(flows, agent, "top-cancel")

    async def person(screen: Screen) -> None:
        for run_id in (first, second):
            await screen.goes_to(run_id)
            await screen.press("space")
        await screen.press("c")
        await screen.shows("Cancel 2 runs?", "Their processes are asked to end")
        await screen.press("escape")
        assert "Cancel 2 runs?" not in screen.text
        await screen.press("c", "enter")
        await screen.shows("Cancelled 2 runs", "◌ Cancelling")

    top(server, person)
    assert flows.states("top-cancel") == ["Cancelling", "Cancelling"]
    for run_id in (first, second):
        agent.state(run_id, "Cancelled")


def test_a_run_that_has_ended_is_run_again_once(server: ServerProcess, flows: Flows, agent: FakeAgent) -> None:
    failed = started(flows, agent, "top-again")
    agent.state(failed, "Failed", "no")

    async def person(screen: Screen) -> None:
        await screen.goes_to(failed)
        await screen.press("r")
        await screen.shows("Run this again?")
        await screen.press("y")
        await screen.shows("Started ")
        new = re.search("Started ([0-9a-f]{8})", screen.text)
        assert new is not None
        await screen.press("r", "escape", "c")  # it has ended, so there is nothing to cancel
        await screen.shows("It has ended already")

    top(server, person)
    assert len(flows.states("top-again")) == 2


def test_a_log_is_followed_searched_and_narrowed_to_errors(
    server: ServerProcess, flows: Flows, agent: FakeAgent
) -> None:
    run_id = started(flows, agent, "top-log")
    agent.log(run_id, *(("stdout", f"line {n}{' zstd' if n % 50 == 0 else ''}") for n in range(200)))
    agent.log(run_id, ("stderr", "it is broken"), level="ERROR", at_us=1_800_000_001_000_000)

    async def person(screen: Screen) -> None:
        await screen.goes_to(run_id)
        await screen.press("l")
        await screen.shows("it is broken", "all levels, following")
        agent.log(run_id, ("stdout", "a new line"), at_us=1_800_000_002_000_000)
        await screen.shows("a new line")
        await screen.press("/")
        await screen.types("zstd")
        await screen.shows("/zstd 4 of 4", "line 150 zstd")
        await screen.press("N")
        await screen.shows("/zstd 3 of 4", "line 100 zstd")
        assert "a new line" not in screen.text
        await screen.press("e")
        await screen.shows("it is broken")
        await screen.press("v", "v")
        await screen.until(lambda: "it is broken" in screen.text and "line 199" not in screen.text)
        await screen.shows("errors")
        await screen.press("escape")
        await screen.shows("STATE")

    top(server, person)
    agent.state(run_id, "Success")


def test_the_story_of_a_failed_run_has_its_cause_its_grade_and_its_parameters(
    server: ServerProcess, flows: Flows, agent: FakeAgent
) -> None:
    run_id = flows.run("top-story", day="monday", db_password="hunter2")
    agent.state(run_id, "Submitted", "Submitted for execution")
    agent.state(run_id, "Running", pid=4242)
    agent.state(run_id, "Failed", "Memory limit exceeded", reason="memory_limit", grade="proven")

    async def person(screen: Screen) -> None:
        await screen.goes_to(run_id)
        await screen.press("e")
        await screen.shows("Memory limit exceeded", "proven", "created", "claimed", "started", "4242")
        await screen.press("4")
        await screen.shows("day", '"monday"', "db_password")
        assert "hunter2" not in screen.text

    top(server, person)


def test_a_filter_narrows_the_list_and_a_term_that_is_none_changes_nothing(
    server: ServerProcess, flows: Flows, agent: FakeAgent
) -> None:
    for flow in ("top-filter-a", "top-filter-b"):
        agent.state(started(flows, agent, flow), "Failed", "no")

    async def person(screen: Screen) -> None:
        await screen.shows("top-filter-a", "top-filter-b")
        await screen.press("/")
        await screen.types("stat:failed")
        await screen.shows("Did you mean state:?", "top-filter-b")
        await screen.press("/")
        await screen.types("state:failed flow:top-filter-a")
        await screen.until(lambda: "top-filter-a" in screen.text and "top-filter-b" not in screen.text)
        await screen.press("escape")
        await screen.shows("top-filter-b")

    top(server, person)


def test_keys_move_through_the_list_and_a_double_click_opens_a_row(
    server: ServerProcess, flows: Flows, agent: FakeAgent
) -> None:
    run_id = started(flows, agent, "top-mouse")

    async def person(screen: Screen) -> None:
        await screen.shows(run_id[:8])
        await screen.press("home")
        first = screen.current
        await screen.press("j", "j", "k")
        assert screen.current != first
        await screen.press("home")
        assert screen.current == first
        y = next(n for n, one in enumerate(screen.lines) if run_id[:8] in one)
        await screen.click(10, y, times=2)
        await screen.shows("1 Log  2 Story", run_id[:8])

    top(server, person)
    agent.state(run_id, "Success")


def test_a_server_that_goes_and_comes_back_leaves_the_picture(
    server: ServerProcess, flows: Flows, agent: FakeAgent
) -> None:
    run_id = started(flows, agent, "top-away")

    async def person(screen: Screen) -> None:
        await screen.shows(run_id[:8])
        server.stop()
        await screen.shows("no answer since", "trying again", run_id[:8])
        server.start()
        await screen.until(lambda: "no answer since" not in screen.text)
        await screen.shows(run_id[:8])

    top(server, person)


def test_nonsense_of_a_server_is_said_and_does_not_end_the_program() -> None:
    nonsense = [
        Answer(body=b"no JSON"),
        Answer(body=b'{"data": {}}'),
        Answer(body=b'{"data": {"hello": 5, "agent": [{"id": 5}]}}'),
        Answer(body=b'{"errors": [{"message": "\\u001b[2Jno"}]}'),
        Answer(status=500),
    ]
    given = nonsense[:1]

    async def person(screen: Screen) -> None:
        for answer in nonsense:
            given[0], screen.app.problem = answer, ""
            await screen.until(lambda: screen.app.problem)
            await screen.press("j", "enter", "c", "a", "escape")
            assert "\x1b" not in screen.text

    with http_server(lambda request: given[0]) as url:
        before(ServerSource(UserClient(GraphQLTransport(url)), load_settings()), person)


def test_a_terminal_is_drawn_without_colours_if_asked_and_restored_at_the_end(
    server: ServerProcess, command: CommandLine, tmp_path: Path
) -> None:
    plain_command = CommandLine(command.home, {"NO_COLOR": "1", "FLOWHERD__CLOUD__API": server.url})
    with on_terminal(plain_command, "top", "--no-mouse", "--interval", "200ms") as terminal:
        terminal.read_until(lambda raw: "quit" in raw)
        terminal.write("\x03")  # Ctrl-C
        assert terminal.end() == 0
        codes = {code for found in re.findall(r"\x1b\[([0-9;]*)m", terminal.raw) for code in found.split(";")}
        assert codes <= {"", "0", "1", "39", "49"}
        assert "\x1b[?1000h" not in terminal.raw  # reports of the mouse
        assert terminal.raw.rindex("\x1b[?1049l") > terminal.raw.rindex("\x1b[?1049h")
        assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_be_drawn_on_is_refused_in_one_line(command: CommandLine, term: str) -> None:
    with on_terminal(command, "top", term=term) as terminal:
        assert terminal.end() == 2
        assert "flowherd ps --watch" in terminal.text
        assert len(terminal.text.strip().splitlines()) == 1


def test_a_pipe_is_refused(command: CommandLine) -> None:
    assert "it needs a terminal" in CommandLine(command.home, {"TERM": "xterm"})("top", code=2).stderr


def test_a_signal_that_ends_it_leaves_the_terminal_as_it_was(command: CommandLine) -> None:
    with on_terminal(command, "top") as terminal:
        terminal.read_until(lambda raw: "quit" in raw)
        terminal.send_signal(signal.SIGHUP)
        assert terminal.end() == 128 + signal.SIGHUP
        assert terminal.raw.rindex("\x1b[?1049l") > terminal.raw.rindex("\x1b[?1049h")
