"""The list of processes that could not be ended: kept until they are gone, whatever is in the file."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowherd.host.store.survivors import (
    SURVIVORS_FILE,
    Survivor,
    SurvivorList,
    living_survivors,
    recorded_survivors,
    sentences,
    survivor,
)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    going = subprocess.Popen(["sleep", "300"])
    yield going
    going.kill()
    going.wait()


@pytest.fixture
def one(process: subprocess.Popen[bytes]) -> Survivor:
    found = survivor(process.pid)
    assert found is not None
    return replace(found, flow_run_id="a-run", refused=True)


def test_it_is_kept_until_the_process_is_gone(tmp_path: Path, process: subprocess.Popen[bytes], one: Survivor) -> None:
    survivors = SurvivorList(tmp_path)
    survivors.add([one])
    assert living_survivors(tmp_path) == [one]
    assert SurvivorList(tmp_path).refresh() == [one], "the next agent goes on with it"
    (tmp_path / SURVIVORS_FILE).unlink()
    assert survivors.refresh() == [one]
    assert living_survivors(tmp_path) == [one], "made again after it was removed"
    process.kill()
    process.wait()
    assert living_survivors(tmp_path) == []
    assert survivors.refresh() == []
    assert not (tmp_path / SURVIVORS_FILE).exists()


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "of yesterday"}, {"pid": 4_000_000}])
def test_another_process_is_not_taken_for_it(tmp_path: Path, one: Survivor, change: dict[str, Any]) -> None:
    SurvivorList(tmp_path)._write([replace(one, **change)])
    assert living_survivors(tmp_path) == []


@pytest.mark.parametrize(
    "content", ["", "[]", '{"contract": 1}', '{"contract": 1, "survivors": [1, null, {"pid": 0}]}']
)
def test_a_damaged_file_is_an_empty_list(tmp_path: Path, one: Survivor, content: str) -> None:
    (tmp_path / SURVIVORS_FILE).write_text(content)
    assert living_survivors(tmp_path) == []
    SurvivorList(tmp_path).add([one])
    assert living_survivors(tmp_path) == [one]


def test_a_damaged_entry_of_a_record_costs_only_itself(one: Survivor) -> None:
    good = {**vars(one), "name": "sl\udce9ep"}
    record = {"survivors": [{}, {**good, "pid": True}, {**good, "user": 7}, {**good, "boot_id": None}, good, "x"]}
    (found,) = recorded_survivors(record)
    assert (found.pid, found.name) == (one.pid, "sl\\udce9ep")
    assert recorded_survivors({"survivors": 7}) == []


def test_the_sentence_says_why_and_names_a_few(one: Survivor) -> None:
    assert sentences([]) == ""
    named = f"sleep (pid {one.pid}, user {one.user})"
    assert sentences([one]) == f"Still running, because the agent's user may not signal it: {named}."
    assert sentences([replace(one, refused=False)]) == f"Killed, but still running: {named}."
    assert sentences([one] * 7).endswith(f"{named} and 2 more.")
