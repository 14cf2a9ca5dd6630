"""`flowherd server backup` and `flowherd server check`, while a server runs and without one."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.client_commands.helpers import FakeAgent, register
from tests.support.commands import CommandLine
from tests.support.server import ServerProcess, running_server

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]


def numbers(database: Path) -> list[int]:
    """Return the numbers at the ends of the messages, in the order of arrival."""
    with closing(sqlite3.connect(database)) as connection:
        return [int(row[0].split()[-1]) for row in connection.execute("SELECT message FROM log ORDER BY id")]


def test_a_backup_of_a_server_that_is_written_to_has_one_state_of_it_and_can_be_served(
    command: CommandLine, server: ServerProcess, agent: FakeAgent, tmp_path: Path
) -> None:
    register(command, "backed-up")
    run_id = command.run("backed-up")
    for start in range(0, 2_000, 1_000):
        agent.log(run_id, *(("stdout", f"line {n}") for n in range(start, start + 1_000)))
    copy, going, written = tmp_path / "data" / "flowherd.sqlite", threading.Event(), 2_000
    copy.parent.mkdir(mode=0o700)

    def write() -> None:
        nonlocal written
        while not going.is_set():
            agent.log(run_id, ("stdout", f"line {written}"))
            written += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = command("server", "backup", str(copy))
    finally:
        going.set()
        writer.join()
    assert done.stdout.startswith(f"{server.data_dir / 'flowherd.sqlite'} is copied to {copy} (")
    assert copy.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in copy.parent.iterdir()] == [copy.name]
    found = numbers(copy)
    assert found == list(range(len(found))) and 2_000 <= len(found) <= written
    with running_server(copy.parent) as other:
        restored = CommandLine(other.home)
        assert restored("logs", run_id).stdout.count("\n") == len(found)


def test_a_backup_replaces_no_file_unless_told_to(command: CommandLine, server: ServerProcess, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite"
    target.write_text("mine")
    target.chmod(0o644)
    refused = command("server", "backup", str(target), code=2)
    assert f"{target} exists; name another file, or replace it with --force" in refused.stderr
    assert target.read_text() == "mine"
    command("server", "--data-dir", str(server.data_dir), "backup", str(target), "--force")
    assert target.read_bytes().startswith(b"SQLite format 3") and target.stat().st_mode & 0o777 == 0o600


def test_a_check_exits_with_1_if_something_is_wrong(own_command: CommandLine, own_server: ServerProcess) -> None:
    good = json.loads(own_command("server", "check", "--json").stdout)
    assert (good["ok"], good["database"]) == (True, str(own_server.data_dir / "flowherd.sqlite"))
    assert {each["check"]: each["ok"] for each in good["checks"]}["structure"]
    with closing(sqlite3.connect(good["database"])) as connection:
        connection.execute("CREATE TABLE log_of_layout_2 (id)")
        connection.commit()
    assert "was interrupted; start the server" in own_command("server", "check", code=1).stdout
