"""flowherd's commands at a Prefect 3 server: what they look at, and what they leave to Prefect's own commands."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tests.peers.prefect3.prefect_server import PrefectServer
from tests.support.commands import CommandLine

pytestmark = pytest.mark.timeout(300)

_numbers = itertools.count()


@pytest.fixture
def command(prefect: PrefectServer, tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "home", {"HOME": str(tmp_path), "PREFECT_API_URL": prefect.api})


def checks(command: CommandLine, *arguments: str, code: int = 0) -> dict[str, tuple[str, str]]:
    printed = json.loads(command("doctor", "--json", *arguments, code=code).stdout)
    return {check["check"]: (check["grade"], check["detail"]) for check in printed["checks"]}


def test_doctor_looks_at_the_work_pool_and_makes_none(prefect: PrefectServer, command: CommandLine) -> None:
    pool = f"of doctor {next(_numbers)}"
    found = checks(command, "--pool", pool)
    assert found["work pool"] == ("ok", f"{pool!r} is not there yet; the agent's start makes it")
    assert prefect.ask("POST", "/work_pools/filter", {"work_pools": {"name": {"any_": [pool]}}}) == []
    prefect.add_pool(pool)
    found = checks(command, "--pool", pool)
    assert found["backend"][0] == found["credentials"][0] == found["clock"][0] == "ok"
    assert f"Prefect 3.8.5, work pool {pool}" in found["backend"][1]


def test_doctor_says_what_is_wrong_with_a_pool_of_another_type(prefect: PrefectServer, command: CommandLine) -> None:
    prefect.add_pool("of containers", type="docker")
    grade, detail = checks(command, "--pool", "of containers", code=1)["backend"]
    assert (grade, "of type 'docker'" in detail) == ("bad", True)


def test_doctor_says_that_no_server_is_there(command: CommandLine) -> None:
    grade, _ = checks(command, "--pool", "any", "--api", "http://127.0.0.1:9/api", code=1)["backend"]
    assert grade == "bad"


def test_what_the_server_knows_is_left_to_prefects_own_command(prefect: PrefectServer, tmp_path: Path) -> None:
    command = CommandLine(
        tmp_path, {"HOME": str(tmp_path), "PREFECT_API_URL": prefect.api, "FLOWHERD__PREFECT3__POOL": "x"}
    )
    for arguments in (["ps"], ["logs", "abc"], ["explain", "abc"], ["cancel", "abc"]):
        done = command(*arguments, code=3)
        assert "the work pool 'x' (from variable FLOWHERD__PREFECT3__POOL)" in done.stderr
        assert "prefect flow-run" in done.stderr


def test_a_queue_without_a_pool_is_a_wrong_command_line(command: CommandLine) -> None:
    assert "--pool" in command("start", "--work-queue", "fast", code=2).stderr


def test_a_pool_without_an_address_says_where_one_is_set(tmp_path: Path) -> None:
    command = CommandLine(tmp_path, {"HOME": str(tmp_path)})
    done = command("start", "--pool", "x", code=2)
    assert "PREFECT_API_URL" in done.stderr and "brought up" not in done.stderr


def test_the_shell_completes_process_pools_and_their_queues(prefect: PrefectServer, command: CommandLine) -> None:
    pool = f"completed-{next(_numbers)}"
    prefect.add_pool(pool)
    prefect.ask("POST", f"/work_pools/{pool}/queues", {"name": "fast"})
    assert completed(command, "flowherd start --pool comp") == [pool]
    assert completed(command, f"flowherd start --pool {pool} --work-queue f") == ["fast"]


def completed(command: CommandLine, line: str) -> list[str]:
    asking = CommandLine(
        command.home,
        {**command.env, "_FLOWHERD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))},
    )
    return asking(code=None).stdout.split()
