"""Real work through the real command line: many runs on two agents, and a killed agent whose runs go on."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import READY, CommandLine, background
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

FLOWS = '''
import hashlib, logging, pathlib, time

def digest(source, target):
    """Write the digest of a file to another one, and one more character to a tally."""
    print("reading", source)
    data = pathlib.Path(source).read_bytes()
    pathlib.Path(target).write_text(hashlib.sha256(data).hexdigest())
    with open(target + ".tally", "a") as tally:
        tally.write("x")
    logging.getLogger("digest").info("done with %d bytes", len(data))

def count(name, directory, steps=60):
    """Print step by step, after one more character to a tally."""
    with open(f"{directory}/{name}.tally", "a") as tally:
        tally.write("x")
    for step in range(steps):
        print(f"{name} step {step}")
        time.sleep(0.05)
        if step == steps // 2:
            pathlib.Path(f"{directory}/{name}.half").touch()
'''


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    home = tmp_path / "home"
    home.mkdir()
    return CommandLine(home)


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    path = tmp_path / "flows.py"
    path.write_text(FLOWS)
    return path


@pytest.fixture
def server(command: CommandLine) -> Iterator[None]:
    with background(command, "server", "--port", "0", until="ready at"):
        yield


@pytest.mark.timeout(300)
def test_two_hundred_runs_over_two_agents_are_each_run_once_and_every_line_is_there(
    command: CommandLine, server: None, flows: Path, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for number in range(100):
        (files / f"{number}.txt").write_text(f"content {number}\n" * (number + 1))
    command("register", "python-digest", "--python", f"{flows}:digest", "-l", "north", "--any-host")
    script = "sha256sum {source} | cut -d' ' -f1 > {target} && echo x >> {target}.tally && echo digested {source}"
    command("register", "shell-digest", "--command", "-l", "south", "--any-host", "--", "sh", "-c", script)
    agents = [
        background(command, "start", "-n", label, "-l", label, "--no-hostname-label", until=READY)
        for label in ("north", "south")
    ]
    with agents[0], agents[1]:
        runs: dict[str, tuple[str, Path]] = {}
        with command.client() as client:
            ids = {flow.name: flow.id for flow in client.flows.find()}
            for number, (name, flow_id) in itertools.product(range(100), ids.items()):
                source, target = files / f"{number}.txt", files / f"{number}.{name}"
                parameters = {"source": str(source), "target": str(target)}
                runs[client.runs.create(flow_id, parameters=parameters)] = (name, target)
        ends = command.wait_for_ends(list(runs), timeout_s=120)
    assert Counter(ends[run_id]["state"] for run_id in runs) == {"Success": 200}
    assert {ends[run_id]["agent"] for run_id, (flow, _) in runs.items() if flow == "python-digest"} == {"north"}
    for run_id, (flow, target) in runs.items():
        source = target.with_suffix(".txt")
        assert target.read_text().strip() == hashlib.sha256(source.read_bytes()).hexdigest()
        assert (target.parent / f"{target.name}.tally").read_text().strip() == "x"
        if run_id in list(runs)[::20]:
            expected = f"reading {source}" if flow == "python-digest" else f"digested {source}"
            assert command.lines(run_id) == [expected]


@pytest.mark.timeout(200)
def test_twenty_runs_survive_the_kill_of_their_agent_with_right_states_and_whole_logs(
    command: CommandLine, server: None, flows: Path, tmp_path: Path
) -> None:
    command("register", "count", "--python", f"{flows}:count", "-p", f"directory={tmp_path}")
    names = [f"run{number}" for number in range(20)]
    with background(command, "start", until=READY) as first:
        runs = {command.run("count", "-p", f"name={name}"): name for name in names}
        wait_until(lambda: all((tmp_path / f"{name}.half").exists() for name in names), timeout_s=60)
        first.kill()
    with background(command, "start", until=READY):
        ends = command.wait_for_ends(list(runs))
    assert {ends[run_id]["state"] for run_id in runs} == {"Success"}
    for run_id, name in runs.items():
        assert command.lines(run_id) == [f"{name} step {step}" for step in range(60)]
        assert (tmp_path / f"{name}.tally").read_text() == "x"
