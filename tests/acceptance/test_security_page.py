"""What docs/security.md says of requests, files and tokens, tried with a real server and agent."""

from __future__ import annotations

import os
import re
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from starlette.routing import Route

from flowherd_server.web.app import create_app
from tests.support.commands import READY, Background, CommandLine, background
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
#: Enough of a server to know its routes.
CORE = SimpleNamespace(instance="", restored=False, feed=SimpleNamespace(on_close=[]))
WARNING = "This agent runs as root and its API has no token"


def table(heading: str) -> list[list[str]]:
    """The cells of the rows of the table below a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@dataclass(frozen=True)
class Stage:
    """A server that has made itself a token, and an agent of the same user."""

    command: CommandLine
    url: str
    output: str
    token: str
    agent: Background


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    command = CommandLine(tmp_path_factory.mktemp("guarded") / "home")
    with none_left(), background(command, "server", "--new-token", "--port", "0", until="ready at") as server:
        found = re.search(r"ready at (\S+)", server.text())
        assert found
        with background(command, "start", "-n", "NAME", until=READY) as agent:
            token = (command.home / "server.token").read_text().strip()
            command("register", "hello", "--command", "--", "true")
            yield Stage(command, found[1], server.text(), token, agent)


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with none_left(), running_server(tmp_path_factory.mktemp("open") / "data") as server:
        yield server


def code_of(request: str, url: str, token: str, agent_id: str) -> int:
    method, _, path = request.strip("`").partition(" ")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    more: dict[str, Any] = {"json": {"query": "{ hello }"}} if method == "POST" else {"params": {"timeout": 0}}
    address = url + path.replace("{agent_id}", agent_id).replace("{flow_run_id}", str(uuid.uuid4()))
    return requests.request(method, address, headers=headers, timeout=30, **more).status_code


def codes(cell: str) -> set[int]:
    """Return the statuses that a cell of the table names."""
    return set(map(int, re.findall(r"\b\d{3}\b", cell)))


def registered(url: str, token: str) -> str:
    query = f'mutation {{ register_agent(input: {{type: "x", name: "{uuid.uuid4()}", labels: []}}) {{ id }} }}'
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = requests.post(f"{url}/graphql", json={"query": query}, headers=headers, timeout=30).json()
    return str(answer["data"]["register_agent"]["id"])


def test_the_table_of_requests_is_complete_and_true(stage: Stage, open_server: ServerProcess) -> None:
    rows = table("The server's requests")
    routes = [route for route in create_app(CORE, "127.0.0.1", "", 1, pages="off").routes if isinstance(route, Route)]  # type: ignore[arg-type]
    known = {f"`{method} {route.path}`" for route in routes for method in (route.methods or ()) if method != "HEAD"}
    assert {row[0] for row in rows} == known
    ours, others = registered(stage.url, stage.token), registered(open_server.url, "")
    for request, without, with_it, lacking in rows:
        assert code_of(request, open_server.url, "", others) in codes(without), request
        assert code_of(request, stage.url, stage.token, ours) in codes(with_it), request
        assert code_of(request, stage.url, "", ours) in codes(lacking), request
        assert code_of(request, stage.url, "wrong", ours) in codes(lacking), request


def test_the_files_have_the_modes_of_the_table(stage: Stage) -> None:
    for name, mode, *_ in table("Files"):
        path = stage.command.home / name.strip("`").replace("NAME", "name")
        assert f"{stat.S_IMODE(path.stat().st_mode):04o}" == mode, path


def test_a_new_token_is_in_a_file_and_its_place_is_printed_not_itself(stage: Stage) -> None:
    assert len(stage.token) >= 40
    assert str(stage.command.home / "server.token") in stage.output
    assert stage.token not in stage.output


def test_commands_and_agents_of_the_same_user_find_the_token_and_others_are_refused(stage: Stage) -> None:
    assert "up" in stage.command("status", "-n", "NAME").stdout
    for address in ([], ["--api", stage.url]):
        assert stage.command("ps", *address).returncode == 0
    stage.command("start", "-n", "second", "-a", stage.url, "--max-polls", "1")
    stranger = CommandLine(stage.command.home.parent / "stranger")
    assert "token" in stranger("ps", "--api", stage.url, code=2).stderr
    stranger("start", "-n", "third", "-a", stage.url, "--max-polls", "1", code=2)


def test_doctor_says_whether_there_is_a_token(stage: Stage, open_server: ServerProcess) -> None:
    with_token = {check["check"]: check for check in stage.command.json("doctor", "-n", "NAME")["checks"]}
    assert str(stage.command.home / "server.token") in with_token["server token"]["detail"]
    assert with_token["token"]["grade"] == "ok"
    without = CommandLine(open_server.home)("doctor", code=None).stdout
    assert "every user of this host may run commands" in without


def test_a_token_that_exists_stays(stage: Stage, tmp_path: Path) -> None:
    # The directory is in use, so the second server ends.
    again = stage.command("server", "--new-token", "--port", "0", code=2)
    assert "kept the token" in again.stderr
    assert (stage.command.home / "server.token").read_text().strip() == stage.token
    configured = CommandLine(tmp_path / "home", {"FLOWHERD__SERVER__TOKEN": "mine"})
    assert "is set already" in configured("server", "--new-token", code=2).stderr
    assert not (configured.home / "server.token").exists()


def test_a_token_that_others_could_read_is_not_used(tmp_path: Path) -> None:
    command = CommandLine(tmp_path / "home")
    command.home.mkdir(mode=0o700)
    path = command.home / "server.token"
    path.write_text("known\n")
    path.chmod(0o644)
    assert "chmod 600" in command("ps", code=2).stderr
    path.chmod(0o600)
    path.write_text("")
    assert "is empty" in command("ps", code=2).stderr


def test_an_agent_that_runs_as_root_warns_once_if_there_is_no_token(
    stage: Stage, open_server: ServerProcess, tmp_path: Path
) -> None:
    expected = 1 if os.geteuid() == 0 else 0
    log = tmp_path / "agent.log"
    done = CommandLine(open_server.home)("start", "-n", "once", "--max-polls", "1", "--log-file", str(log))
    assert (done.stdout + done.stderr).count(WARNING) == expected
    assert log.read_text().count(WARNING) == expected
    assert WARNING not in stage.agent.text()
