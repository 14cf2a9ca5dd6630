"""`flowherd apply` against a real server, also one that is killed in the middle of it."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from flowherd.backends.graphql.transport import GraphQLTransport
from tests.support.commands import CommandLine
from tests.support.http_server import Answer, Request, http_server
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

#: Makes a statement about this flow take as long as the server lives.
ENDLESS = """
CREATE TRIGGER endless BEFORE INSERT ON flow WHEN NEW.name = 'flow-20' BEGIN
  SELECT count(*) FROM sqlite_master a, sqlite_master b, sqlite_master c, sqlite_master d, sqlite_master e;
END
"""


def write(path: Path, flows: dict[str, str], project: str) -> str:
    tables = "".join(f'[flows."{name}"]\n{keys}\n' for name, keys in flows.items())
    path.write_text(f'project = "{project}"\n{tables}')
    return str(path)


def actions(command: CommandLine, *args: str, code: int = 0) -> dict[str, str]:
    done = json.loads(command("apply", "--json", *args, code=code).stdout)
    return {flow["name"]: flow["action"] for flow in done["flows"]}


def stored(server: ServerProcess) -> Any:
    """All flows and runs, without what has no order."""
    query = """{
      flow(order_by: {id: asc}) { id name version archived is_schedule_active flow_group { settings } }
      flow_run(order_by: {id: asc}) { id flow_id state scheduled_start_time }
      project(order_by: {name: asc}) { name }
    }"""
    return server.post("/graphql", json={"query": query}).json()["data"]


def test_a_file_is_shown_first_then_applied_once(command: CommandLine, tmp_path: Path) -> None:
    nightly = 'command = ["true"]\ncron = "30 2 * * *"\ntimezone = "Europe/Berlin"\n'
    file = write(tmp_path / "flows.toml", {"nightly": nightly, "plain": 'command = ["true"]'}, "shown")
    tried = command("apply", file, "--dry-run", code=1)
    assert tried.stdout.splitlines() == [
        "+ nightly: daily at 02:30 (30 2 * * *), Europe/Berlin",
        "+ plain",
        "project shown: would be 2 registered",
    ]
    assert "nothing was changed" in tried.stderr
    assert command("apply", file).stdout.splitlines()[-1] == "project shown: 2 registered"
    assert command("apply", file, "--dry-run").stdout == command("apply", file).stdout == "project shown: 2 as before\n"

    secret = nightly + 'env = { API_TOKEN = "hunter22", LEVEL = "1" }\n'
    write(tmp_path / "flows.toml", {"nightly": secret.replace("30 2", "30 3")}, "shown")
    changed = command("apply", file)
    assert changed.stdout.splitlines() == [
        "~ nightly",
        '    env.API_TOKEN: (none) -> "***"',
        '    env.LEVEL: (none) -> "1"',
        '    cron: "30 2 * * *" -> "30 3 * * *"',
        "  plain: not in the file, and still registered; --prune unregisters it",
        "project shown: 1 changed, 1 not in the file",
    ]
    assert "hunter22" not in command("apply", file, "--dry-run", "--prune", "--json", code=1).stdout
    assert actions(command, file, "--prune") == {"nightly": "same", "plain": "unregistered"}
    schedules = json.loads(command("schedule", "ls", "--project", "shown", "--json").stdout)
    assert [(each["flow"], each["timezones"]) for each in schedules] == [("nightly", ["Europe/Berlin"])]


def test_what_cannot_be_applied_is_refused_before_anything_is_changed(command: CommandLine, tmp_path: Path) -> None:
    wrong = {"a": 'command = ["true"]\ncron = "@daily"', "b": 'command = ["true"]\nmemory = "much"'}
    file = write(tmp_path / "flows.toml", wrong, "refused")
    errors = command("apply", file, code=2).stderr.splitlines()
    assert [line.startswith(f"error: {file}, line ") for line in errors] == [True, True, False]
    assert "timezone" in errors[0] and "memory" in errors[1]
    assert "declare-flows" in command("apply", str(tmp_path / "none.toml"), code=4).stderr

    command("register", "mine", "--project", "refused", "--command", "--", "true")
    file = write(tmp_path / "flows.toml", {"mine": 'command = ["true"]', "new": 'command = ["true"]'}, "refused")
    assert "--take-over" in command("apply", file, code=1).stderr
    assert actions(command, file, "--take-over") == {"mine": "taken over", "new": "registered"}


def test_only_flows_that_differ_are_checked_and_a_problem_has_its_line(command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("def main(n=1, *, level='low'): pass\n")
    env = f'env = {{ PYTHONPATH = "{tmp_path}" }}'
    good = {"good": f'python = "good:main"\n{env}'}
    file = write(tmp_path / "flows.toml", good, "checked")
    assert actions(command, file) == {"good": "registered"}
    assert "did you mean 'level'?" in command("run", "good", "-p", "leve=1", code=2).stderr  # the check has found that
    (tmp_path / "good.py").unlink()
    assert actions(command, file, "--dry-run") == {"good": "same"}

    bad = {"bad": 'python = "no_such_module:main"', "missing": 'command = ["./no-such-program"]'}
    write(tmp_path / "flows.toml", {**good, **bad}, "checked")
    errors = command("apply", file, "--dry-run", code=2).stderr.splitlines()
    assert errors[0].startswith(f"error: {file}, line 5: flows.bad: no_such_module:main: ")
    assert errors[1] == f"error: {file}, line 7: flows.missing: there is no file {tmp_path}/no-such-program"
    assert "--no-check" in errors[2]
    done = actions(command, file, "--no-check")
    assert done == {"good": "same", "bad": "registered", "missing": "registered"}


def test_another_server_is_told_from_one_that_can(server: ServerProcess, tmp_path: Path) -> None:
    def hide(request: Request) -> Answer:
        headers = {"Content-Type": "application/json"}
        sent = requests.post(server.url + request.path, data=request.body, headers=headers, timeout=30)
        return Answer(status=sent.status_code, headers=headers, body=sent.content)

    file = write(tmp_path / "flows.toml", {"a": 'command = ["true"]'}, "elsewhere")
    with http_server(hide) as url:
        error = CommandLine(server.home)("apply", file, "--api", url, code=1).stderr
    assert "one transaction" in error and "flowherd register" in error
    assert "elsewhere" not in [project["name"] for project in stored(server)["project"]]


@contextmanager
def endless(server: ServerProcess) -> Iterator[sqlite3.Connection]:
    """Let the server go on for ever when it registers flow-20."""
    path = server.data_dir / "flowherd.sqlite"
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        connection.execute(ENDLESS)
        yield connection
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER endless")


def test_a_server_that_is_killed_in_the_middle_has_done_all_or_nothing(
    own_command: CommandLine, own_server: ServerProcess, tmp_path: Path
) -> None:
    keys = 'command = ["true"]\ncron = "0 3 * * *"\ntimezone = "Europe/Berlin"'
    file = write(tmp_path / "flows.toml", {f"flow-{number}": keys for number in range(10)}, "p")
    own_command("apply", file)
    before = stored(own_server)
    assert len(before["flow"]) == 10
    # Some change, some are gone, some are new; the middle of it takes for ever.
    write(tmp_path / "flows.toml", {f"flow-{number}": keys.replace("0 3", "0 4") for number in range(5, 30)}, "p")
    told: list[subprocess.CompletedProcess[str]] = []
    with endless(own_server) as connection:
        applying = threading.Thread(
            target=lambda: told.append(own_command("apply", file, "--prune", "--no-check", code=3))
        )
        applying.start()
        seen = 0

        def is_held() -> bool:
            """Whether the server has held the write lock for many looks in a row."""
            nonlocal seen
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
                seen = 0
            except sqlite3.OperationalError:
                seen += 1
            return seen > 50

        wait_until(is_held, what="the transaction that goes on for ever")
        own_server.kill()
        applying.join(60)
    assert "either the whole file or nothing of it" in told[0].stderr
    own_server.start()
    assert stored(own_server) == before
    done = actions(own_command, file, "--prune")
    assert {action: [*done.values()].count(action) for action in done.values()} == {
        "changed": 5,
        "registered": 20,
        "unregistered": 5,
    }
    assert set(actions(own_command, file, "--prune").values()) == {"same"}


def test_flows_are_marked_for_their_project_and_registered_for_good(
    command: CommandLine, transport: GraphQLTransport, tmp_path: Path
) -> None:
    file = write(tmp_path / "flows.toml", {"marked": 'command = ["true"]\nretries = 2'}, "marks")
    command("apply", file)
    query = 'query { flow(where: {name: {_eq: "marked"}}) { run_config settings flow_group { settings } } }'
    (flow,) = transport.execute(query)["flow"]
    assert flow["flow_group"]["settings"] == {"flowherd": {"project": "marks"}}
    assert flow["settings"]["flowherd"]["retries"] == 2
    assert flow["run_config"]["labels"] == [socket.gethostname()]
    assert flow["run_config"]["working_dir"] == str(tmp_path)
