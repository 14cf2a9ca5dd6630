"""Flows of Prefect 0.x and 1.x at each level of isolation: what they find, and what becomes of their results."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.peers.environments import required_installation
from tests.peers.isolated_runs import READ_ONLY, RUNS, WITHOUT_NETWORK, temporary_file, variables
from tests.peers.prefect1.outcomes import Outcome
from tests.peers.prefect1.scenarios import Prefect1Run
from tests.peers.prefect1.workspace import PROJECT, Workspace, flowherd_agent, running_workspace
from tests.peers.versions import both_versions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_FILE = "isolated_flow.py"
_PROGRAM = Path(__file__).with_name("programs") / _FILE
_RUNS = {**RUNS, "without network": WITHOUT_NETWORK}


@dataclass
class Story:
    """What became of the runs of one agent, which were all going at once, and the names of the results left behind."""

    place: Path
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    results: list[str] = field(default_factory=list)

    def found(self, name: str) -> dict[str, Any]:
        """Return what a run has found around it."""
        messages = self.outcomes[name].messages
        (text,) = (text.removeprefix("found ") for text in messages if text.startswith("found "))
        found: dict[str, Any] = json.loads(text)
        return found


@pytest.fixture(scope="module")
def story(request: pytest.FixtureRequest) -> Iterator[Story]:
    """Below a directory that no run has a private one instead of."""
    with (
        tempfile.TemporaryDirectory(prefix="flowherd-", dir="/srv") as name,
        running_workspace(required_installation(request.param), Path(name)) as workspace,
        flowherd_agent(workspace) as agent,
    ):
        story = Story(Path(name))
        flow_id = _registered(workspace)
        results = workspace.home / ".prefect" / "results"
        results.mkdir(parents=True, exist_ok=True)
        runs = {}
        for title, asked in _RUNS.items():
            (story.place / f"outside {title}").mkdir()
            parameters = {
                "runs": str(workspace.directory / "flowherd" / "agents" / "agent" / "runs"),
                "outside": str(story.place / f"outside {title}"),
                "temporary": str(temporary_file(story.place, title)),
            }
            run_id = workspace.client.create_run(
                flow_id,
                labels=[agent.name, os.uname().nodename],
                parameters=parameters,
                run_config={"type": "LocalRun", "env": variables(asked, results)},
            )
            runs[title] = Prefect1Run(agent, run_id, workspace.client)
        agent.poke()
        story.outcomes = {title: run.wait_for_end() for title, run in runs.items()}
        story.results = [path.name for path in results.iterdir()]
        yield story
        temporary_file(story.place, "none").unlink()


def _registered(workspace: Workspace) -> str:
    """Register the flow by the real client; return its id."""
    workspace.make_project()
    file = workspace.directory / _FILE
    file.write_bytes(_PROGRAM.read_bytes())
    lines = workspace.python(str(file), PROJECT).splitlines()
    return next(line.split()[1] for line in lines if line.startswith("id "))


@both_versions("story")
@pytest.mark.parametrize("name", RUNS)
def test_a_flow_works_at_each_level_and_finds_what_that_leaves_it(story: Story, name: str) -> None:
    outcome = story.outcomes[name]
    assert outcome.state == "Success", outcome
    found = story.found(name)
    level = RUNS[name].get("level", "none")
    assert (found.pop("processes") < 10) == (level != "none")
    assert (found.pop("others") == 0) == (level != "none")
    assert found == {
        "outside": READ_ONLY if level == "sealed" else "done",
        "tmp": "done",
        "capabilities": level != "sealed" and os.geteuid() == 0,
        "uid": os.geteuid(),
        "child": "spoken",
    }
    assert temporary_file(story.place, name).exists() == (level == "none")
    assert [message for message in outcome.messages if message == "got 7"] == ["got 7"] * 2


@both_versions("story")
def test_results_are_kept_where_a_run_may_write_and_a_sealed_run_has_a_place_of_its_own(story: Story) -> None:
    (said,) = (line for line in story.outcomes["sealed"].log if "gone with it because it is sealed" in line)
    assert f"Results that Prefect keeps in {story.place}/home/.prefect/results are in a directory of this run" in said
    each = len(story.results) // 3
    assert each >= 1 and len(story.results) == 3 * each, "of three runs: none, private, and sealed with results"


@both_versions("story")
def test_a_run_without_the_network_that_its_engine_needs_is_refused(story: Story) -> None:
    outcome = story.outcomes["without network"]
    assert outcome.state == "Failed"
    assert "its engine cannot reach its server" in outcome.message
