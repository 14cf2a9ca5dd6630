"""Names, labels, messages and parameters of others cannot control a terminal or forge a line, in any command or log."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import typer

from flowherd.cli.program import make_app
from flowherd.programs.entry import ProgramEntry
from flowherd.programs.program_log import DIRECTORY, ProgramLog
from tests.support.commands import FLOWHERD, READY, CommandLine, background
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.server import running_server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

#: An escape sequence, a title, C1, a direction, a forged line, a line's beginning, markup, DEL, a line separator.
EVIL = "v\x1b[2J\x1b]0;t\x07\x9b2J\u202eb\nFORGED line\r[red]x[/red]\x7f\u2028"
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: What the program itself sends to a terminal: colours.
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

#: The arguments that bring texts of others into each command; RUN is the id of a run that has ended, PLACE a directory.
LINES: dict[str, list[list[str]]] = {
    "start": [["--api", "http://127.0.0.1:9/" + EVIL, "--max-polls", "1"], ["--runtime", EVIL]],
    "server": [["--host", EVIL, "--port", "0"]],
    "server backup": [["PLACE/" + EVIL.replace("/", "")], ["/none/" + EVIL]],
    "server check": [[], ["--data-dir", "PLACE/" + EVIL.replace("/", "")]],
    "register": [[EVIL, "-l", EVIL, "--command", "--", "true"], [EVIL, "--python", EVIL]],
    "run": [["evil " + EVIL, "-l", EVIL, "--wait"], [EVIL, "-p", EVIL], ["evil " + EVIL, "-l", "2" + EVIL]],
    "ps": [["--all"], ["--agent", EVIL], ["--state", EVIL]],
    "top": [["--interval", EVIL]],
    "flows": [[]],
    "flow": [["evil " + EVIL], [EVIL]],
    "schedules": [[]],
    "agents": [["--all"]],
    "unregister": [[EVIL], ["evil " + EVIL, "--project", EVIL]],
    "wait": [["RUN"], [EVIL]],
    "cancel": [["RUN"], [EVIL]],
    "retry": [["RUN"], [EVIL]],
    "schedule ls": [[]],
    "schedule pause": [["evil " + EVIL], [EVIL]],
    "schedule resume": [["evil " + EVIL], [EVIL]],
    "schedule next": [["evil " + EVIL], [EVIL], ["--cron", EVIL]],
    "schedule run-now": [["evil " + EVIL], [EVIL]],
    "delete run": [["RUN"], [EVIL]],
    "delete flow": [["evil " + EVIL], [EVIL]],
    "logs": [["RUN"], [EVIL]],
    "explain": [["RUN"], [EVIL], ["--program", EVIL]],
    "poke": [["-n", EVIL]],
    "status": [[], ["-n", EVIL]],
    "pause": [["-n", EVIL]],
    "resume": [["-n", EVIL]],
    "drain": [["-n", EVIL]],
    "restart": [["-n", EVIL]],
    "reload": [["-n", EVIL]],
    "doctor": [["-n", "watcher"]],
    "config": [[]],
    "apply": [["/none/" + EVIL]],
    "notify list": [[]],
    "notify test": [[EVIL]],
    "import crontab": [["/none/" + EVIL]],
    "install systemd": [["-l", EVIL]],
    "install supervisord": [["-n", EVIL]],
    "install prefect-server": [["systemd", EVIL, "--env-file", EVIL]],
}
#: Commands that show nothing of others.
OWN_TEXTS_ONLY = {"demo"}


@dataclass(frozen=True)
class Stage:
    """A server and an agent with a run whose every text is EVIL."""

    command: CommandLine
    run_id: str
    agent_log: str


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    place = tmp_path_factory.mktemp("evil")
    code = f"print({EVIL!r}); import logging; print('\\x1b[31mred'); raise SystemExit({EVIL!r})"
    with none_left(), running_server(place / "data") as server:
        client = Client(server)
        flow = {"name": "evil " + EVIL, "storage": {"type": "Command", "argv": ["python3", "-c", code]}}
        given = {"project_id": client.do("create_project", name=EVIL)["id"], "serialized_flow": flow}
        flow_id = client.do("create_flow", **given)["id"]
        client.do("register_agent", type=EVIL, name=EVIL, labels=[EVIL])
        run_id = client.create_run(flow_id, labels=[EVIL], flow_run_name=EVIL, parameters={EVIL: EVIL})
        waiting = client.create_run(flow_id, labels=["other " + EVIL], flow_run_name=EVIL)
        command = CommandLine(server.home)
        ended = ProgramEntry(at=0.0, program=EVIL, what="exited", message=EVIL, reason=EVIL, grade=EVIL, evidence=EVIL)
        options = ["-n", "watcher", "-l", EVIL, "--no-hostname-label", "--show-flow-logs", "-a", server.url]
        with background(command, "start", *options, until=READY) as agent:
            ProgramLog(server.home / "agents" / "watcher" / DIRECTORY).add(ended)
            wait_until(lambda: client.run(run_id)["state"] == "Failed", timeout_s=60, what=agent.text)
            client.do("write_run_logs", logs={"flow_run_id": run_id, "message": EVIL, "name": EVIL, "level": EVIL})
            client.report(waiting, "Submitted", message=EVIL)
            client.report(waiting, "Cancelled", message=EVIL)
            yield Stage(command, run_id, agent.text())


def controls(text: str, but: str = "\n") -> list[str]:
    return [c for c in text if unicodedata.category(c) in _ESCAPED and c not in but]


def forged(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.startswith("FORGED")]


def test_every_command_is_tried() -> None:
    assert set(LINES) | OWN_TEXTS_ONLY == set(commands_of(typer.main.get_command(make_app())))


def commands_of(command: Any, path: str = "") -> Iterator[str]:
    """All commands that can be carried out, those of a family with the family's name before it."""
    nested = getattr(command, "commands", {})
    if path and (not nested or command.invoke_without_command):
        yield path
    for name, inner in nested.items():
        yield from commands_of(inner, f"{path} {name}".strip())


@pytest.mark.parametrize("name", LINES)
def test_no_command_prints_a_control_of_others(stage: Stage, name: str, tmp_path: Path) -> None:
    for line in LINES[name]:
        words = {"RUN": stage.run_id}
        arguments = [words.get(word, word).replace("PLACE", str(tmp_path)) for word in line]
        done = stage.command(*name.split(), *arguments, code=None)
        for text in (done.stdout, done.stderr):
            assert controls(text) == [], text
            assert forged(text) == [], text
        assert done.stdout + done.stderr, arguments
        assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("arguments", [["ps", "--all"], ["logs", "RUN"], ["explain", "RUN"], ["status"]], ids=" ".join)
def test_a_terminal_shows_escapes_and_markup_as_text(stage: Stage, arguments: list[str]) -> None:
    shown = on_terminal(stage.command, [stage.run_id if word == "RUN" else word for word in arguments])
    plain = _COLOURS.sub("", shown)
    assert controls(plain) == [], plain
    assert forged(plain) == [], plain
    assert "\\x1b[2J" in plain.replace("\n", "")
    if arguments[0] == "logs":
        assert "[red]x[/red]" in plain and re.search("\x1b\\[31mred", shown)


def on_terminal(command: CommandLine, arguments: list[str]) -> str:
    """Run a command with a terminal as its standard output; return what it was sent."""
    ours, theirs = pty.openpty()
    env = {**command.environment(), "TERM": "xterm", "COLUMNS": "400"}
    process = subprocess.Popen([*FLOWHERD, *arguments], env=env, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # EIO: the other side is closed
        pass
    os.close(ours)
    process.wait(30)
    return shown.decode().replace("\r\n", "\n")


def test_json_has_them_as_escapes_of_json(stage: Stage) -> None:
    listed, explained = (stage.command(*line, "--json").stdout for line in (["ps", "--all"], ["explain", stage.run_id]))
    assert controls(listed + explained) == []
    run = next(run for run in json.loads(listed) if run["id"] == stage.run_id)
    assert (run["name"], run["labels"], run["parameters"]) == (EVIL, [EVIL], {EVIL: EVIL})
    assert json.loads(explained)["name"] == EVIL


def test_the_agents_log_and_the_runs_output_on_it_have_no_control_and_no_forged_line(stage: Stage) -> None:
    assert "watcher" in stage.agent_log
    assert "\\x1b[2J" in stage.agent_log
    assert controls(stage.agent_log) == []
    assert forged(stage.agent_log) == []


def test_the_status_page_shows_them_as_text(stage: Stage) -> None:
    url = json.loads((stage.command.home / "server.json").read_text())["url"]
    page = requests.get(url, timeout=30).text
    assert controls(page) == []
    assert forged(page) == []
    assert "\\x1b[2J" in page


def test_a_log_file_has_no_forged_line(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    command = CommandLine(tmp_path / "home", {"FLOWHERD__CLOUD__AGENT__NAME": EVIL})
    command("start", "-a", "http://127.0.0.1:9", "--max-polls", "1", "--log-file", str(path), code=None)
    text = path.read_text()
    assert text
    assert controls(text) == []
    assert forged(text) == []
