"""A server of an earlier minor version of Prefect 3 with a runtime of 3.8.5, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.peers.environments import EARLIER_PREFECT_3, PREFECT_1, PREFECT_3, required_installation
from tests.peers.prefect3.pool_agent import PoolAgent
from tests.peers.prefect3.prefect_server import PrefectServer, running_prefect
from tests.support.commands import CommandLine
from tests.support.leftovers import none_left
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

_POOL = "other minor"


@dataclass
class Story:
    """Runs that have ended, by the name of their flow, and what their two agents have logged."""

    pool: PoolAgent
    runs: dict[str, str] = field(default_factory=dict)
    first: str = ""
    second: str = ""

    def state(self, flow: str) -> str:
        return self.pool.end(self.runs[flow])


@contextmanager
def earlier_server(prefect: PrefectServer, directory: Path) -> Iterator[PoolAgent]:
    """Run a server of the earlier version, with a runtime of 3.8.5."""
    with running_prefect(directory / "server", installation=required_installation(EARLIER_PREFECT_3)) as earlier:
        yield PoolAgent(earlier, directory, _POOL)


@contextmanager
def earlier_runtime(prefect: PrefectServer, directory: Path) -> Iterator[PoolAgent]:
    """Use a server of 3.8.5, with a runtime of the earlier version."""
    yield PoolAgent(prefect, directory, _POOL, required_installation(EARLIER_PREFECT_3))


@pytest.fixture(scope="module", params=[pytest.param(earlier_server, marks=pytest.mark.full), earlier_runtime])
def story(
    request: pytest.FixtureRequest, prefect: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    """All runs at once, because each start of a process costs seconds; the agent is killed and another one goes on."""
    directory = tmp_path_factory.mktemp(request.param.__name__)
    with none_left(), request.param(prefect, directory) as pool:
        pool.deploy()
        story = Story(pool)
        file = directory / "there"
        with pool.start() as first:
            for flow in ("greeting", "failing", "deadly", "endless"):
                story.runs[flow] = pool.run(flow)
            story.runs["patient"] = pool.run("patient", parameters={"file": str(file)})
            pool.wait_for_line(story.runs["endless"], "working")
            assert pool.prefect.set_state(story.runs["endless"], "CANCELLING") == "ACCEPT"
            for flow in ("greeting", "failing", "deadly", "endless"):
                pool.end(story.runs[flow])
                pool.wait_for_process_end(story.runs[flow])
            pool.wait_for_line(story.runs["patient"], "waiting")
            first.kill()
            story.first = first.text()
        with pool.start(FLOWHERD__RUNS__LIMITS__RUN_TIME_S="4") as second:
            story.runs["overdue"] = pool.run("endless")
            wait_until(lambda: "Found a run of an earlier agent" in second.text(), what=second.text)
            file.touch()
            pool.end(story.runs["patient"])
            pool.wait_for_process_end(story.runs["patient"])
            pool.end(story.runs["overdue"])
            story.second = second.text()
        yield story


def test_a_run_is_completed_with_each_line_once(story: Story) -> None:
    assert story.state("greeting") == "COMPLETED"
    said = story.pool.messages(story.runs["greeting"])
    for line in ("hello world", "raw output", "of a child", "the secret is ***", "halving 6"):
        assert said.count(line) == 1, said
    assert story.pool.states(story.runs["greeting"]) == ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED"]


def test_a_failed_flow_is_failed_in_the_engines_words(story: Story) -> None:
    assert story.state("failing") == "FAILED"
    assert "ValueError: on purpose" in story.pool.prefect.run(story.runs["failing"])["state"]["message"]


def test_a_killed_flow_process_is_a_crash_with_its_cause(story: Story) -> None:
    assert story.state("deadly") == "CRASHED"
    assert "SIGKILL" in story.pool.prefect.run(story.runs["deadly"])["state"]["message"]


def test_a_cancelled_run_becomes_cancelled_and_was_never_crashed(story: Story) -> None:
    """Engines before 3.6 take every termination for a crash."""
    assert story.state("endless") == "CANCELLED"
    assert story.pool.states(story.runs["endless"])[-2:] == ["CANCELLING", "CANCELLED"]


def test_a_run_that_a_limit_ends_is_crashed_with_that_cause(story: Story) -> None:
    assert story.state("overdue") == "CRASHED"
    state = story.pool.prefect.run(story.runs["overdue"])["state"]
    assert "4 s" in state["message"], state


def test_a_run_of_a_killed_agent_is_adopted(story: Story) -> None:
    assert story.state("patient") == "COMPLETED"
    said = story.pool.messages(story.runs["patient"])
    assert (said.count("waiting"), said.count("it is there")) == (1, 1)


def test_a_runtime_later_than_its_server_is_told_once(story: Story) -> None:
    expected = int(story.pool.installation.version == PREFECT_3)
    for agent in (story.first, story.second):
        assert agent.count(f"has Prefect {PREFECT_3}, later than the server's {EARLIER_PREFECT_3}") == expected


def test_an_agent_does_not_start_with_a_prefect_1_for_runs_of_a_work_pool(
    prefect: PrefectServer, tmp_path: Path
) -> None:
    command = CommandLine(tmp_path / "home", {"HOME": str(tmp_path)})
    runtime = f"old={required_installation(PREFECT_1).python};core=3.*"
    refused = command("start", "--pool", _POOL, "--api", prefect.api, "--runtime", runtime, code=2).stderr
    assert f"runtime 'old': Prefect {PREFECT_1} in " in refused and "it is to serve flows of Prefect 3.*" in refused
