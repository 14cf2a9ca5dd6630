"""Flows of Prefect 3 at each level of isolation: what they find, that they work, and what becomes of their results."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.peers.isolated_runs import READ_ONLY, RUNS, WITHOUT_NETWORK, temporary_file, variables
from tests.peers.prefect3.pool_agent import PoolAgent
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.support.leftovers import none_left
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

_POOL = "kept apart"
_FILE = "isolated_flows.py"
_PROGRAM = Path(__file__).with_name("programs") / _FILE


@dataclass
class Story:
    """The runs of one agent, which were all going at once; one of them was adopted by the next agent."""

    pool: PoolAgent
    place: Path
    runs: dict[str, str]

    def said(self, name: str, beginning: str) -> list[str]:
        texts = self.pool.messages(self.runs[name])
        return [text.removeprefix(beginning) for text in texts if text.startswith(beginning)]

    def found(self, name: str) -> dict[str, Any]:
        """Return what a run has found around it."""
        (text,) = wait_until(lambda: self.said(name, "found "), what=lambda: self.pool.story(self.runs[name]))
        found: dict[str, Any] = json.loads(text)
        return found

    def is_result_kept(self, name: str) -> bool:
        """Whether the file is there that the server was told to be the run's result."""
        data = self.pool.prefect.run(self.runs[name])["state"]["data"]
        return bool(data) and Path(data["storage_key"]).is_file()


@pytest.fixture(scope="module")
def story(prefect: PrefectServer) -> Iterator[Story]:
    """All runs at once, below a directory that no run has a private one instead of."""
    with tempfile.TemporaryDirectory(prefix="flowherd-", dir="/srv") as name, none_left():
        place = Path(name)
        pool = PoolAgent(prefect, place, _POOL)
        prefect.add_pool(_POOL)
        (place / "flows").mkdir()
        (place / "flows" / _FILE).write_bytes(_PROGRAM.read_bytes())
        storage = place / ".prefect" / "storage"
        storage.mkdir(parents=True)
        steps = [{"prefect.deployments.steps.set_working_directory": {"directory": str(place / "flows")}}]
        deployments = {
            flow: prefect.add_deployment(_POOL, flow, entrypoint=f"{_FILE}:{flow}", pull_steps=steps)
            for flow in ("looking", "patient")
        }

        def start(flow: str, asked: dict[str, Any], **parameters: str) -> str:
            env = variables(asked, storage)
            return prefect.add_run(deployments[flow], parameters=parameters, job_variables={"env": env})

        story = Story(pool, place, {})
        runs_directory = pool.command.home / "agents" / "pooled" / "runs"
        with pool.start() as first:
            for name, asked in RUNS.items():
                outside = place / f"outside {name}"
                outside.mkdir()
                places = {"outside": str(outside), "temporary": str(temporary_file(place, name))}
                story.runs[name] = start("looking", asked, runs=str(runs_directory), **places)
            story.runs["without network"] = start("patient", WITHOUT_NETWORK, file="")
            file = place / "flows" / "there"
            story.runs["adopted"] = start("patient", {"level": "sealed"}, file=str(file))
            for name in (*RUNS, "without network"):
                pool.end(story.runs[name])
            pool.wait_for_line(story.runs["adopted"], "waiting")
            first.kill()
        with pool.start() as second:
            wait_until(lambda: "Found a run of an earlier agent" in second.text(), what=second.text)
            file.touch()
            pool.end(story.runs["adopted"])
            for name in (*RUNS, "adopted"):
                pool.wait_for_process_end(story.runs[name])
        yield story
        temporary_file(place, "none").unlink()


@pytest.mark.parametrize("name", RUNS)
def test_a_flow_works_at_each_level_and_finds_what_that_leaves_it(story: Story, name: str) -> None:
    assert story.pool.end(story.runs[name]) == "COMPLETED", story.pool.story(story.runs[name])
    found = story.found(name)
    level = RUNS[name].get("level", "none")
    assert (found.pop("processes") < 10) == (level != "none")
    assert (found.pop("others") == 0) == (level != "none")
    assert found == {
        "outside": READ_ONLY if level == "sealed" else "done",
        "tmp": "done",
        "capabilities": level != "sealed" and os.geteuid() == 0,
        "uid": os.geteuid(),
        "no_new_privs": level != "none",
        "child": "spoken",
        "futures": [2, 3, 4],
        "inner": 6,
    }
    (kept_apart,) = story.said(name, "Kept apart: ") or [""]
    assert kept_apart.partition(".")[0] == (level if level != "none" else "")
    assert temporary_file(story.place, name).exists() == (level == "none")
    assert not story.said(name, "Exception ignored"), story.pool.story(story.runs[name])


def test_results_are_kept_where_a_run_may_write_and_for_its_own_time_elsewhere(story: Story) -> None:
    assert {name: story.is_result_kept(name) for name in RUNS} == {name: name != "sealed" for name in RUNS}
    (said,) = (text for text in story.pool.messages(story.runs["sealed"]) if text.startswith("Results that Prefect"))
    assert f"{story.place}/.prefect/storage are in this run's own /tmp" in said
    assert not any("persisting result" in text for text in story.pool.messages(story.runs["sealed"]))


def test_a_sealed_run_of_a_killed_agent_is_adopted(story: Story) -> None:
    assert story.pool.end(story.runs["adopted"]) == "COMPLETED", story.pool.story(story.runs["adopted"])
    said = story.pool.messages(story.runs["adopted"])
    assert (said.count("waiting"), said.count("it is there")) == (1, 1)


def test_a_run_without_the_network_that_its_engine_needs_is_refused(story: Story) -> None:
    assert story.pool.end(story.runs["without network"]) == "CRASHED"
    message = story.pool.prefect.run(story.runs["without network"])["state"]["message"]
    assert "its engine cannot reach its server" in message
