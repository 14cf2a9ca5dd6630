"""What an agent asks of isolation for all of its runs holds whatever their flows ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.states import RunState
from tests.support.agents import going, wait_for_end

pytestmark = pytest.mark.usefixtures("no_process_left")

#: Says of each place whether a file can be made there.
WRITES = "for place in {}; do touch $place/x 2> /dev/null && echo yes || echo no; done"


def shell(script: str) -> dict[str, object]:
    return {"type": "Command", "argv": ["sh", "-c", script]}


def test_a_flow_gets_more_than_its_agent_asks_for_and_never_less(
    clean_environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed, other, code = tmp_path / "allowed", tmp_path / "other", tmp_path / "code"
    for directory in (allowed, other, code, allowed / "inner"):
        directory.mkdir()
    (code / "beside.py").write_text("word = 'imported'\n")
    (code / "flow.py").write_text("import os, beside\ndef main(): print(beside.word, os.environ.get('TMPDIR'))\n")
    monkeypatch.setenv("FLOWHERD__RUNS__ISOLATION__LEVEL", "sealed")
    monkeypatch.setenv("FLOWHERD__RUNS__ISOLATION__WRITE", str(allowed))
    monkeypatch.setenv("TMPDIR", str(other))
    backend = MemoryBackend()
    places = f"{allowed} {allowed}/inner {other} . /tmp"
    with going(LocalAgent(backend=backend, hostname_label=False)):
        less = backend.add_run(
            shell(WRITES.format(places)), run_config={"isolation": "none", "working_dir": str(other)}
        )
        inside = backend.add_run(shell(WRITES.format(".")), run_config={"working_dir": f"{allowed}/inner"})
        fresh = backend.add_run(shell(WRITES.format(".")), run_config={})
        asks = {"isolation": {"write": [str(other)]}}
        outside = backend.add_run(shell("true"), run_config=asks)
        python = backend.add_run({"type": "Python", "ref": f"{code}/flow.py:main"}, run_config={"preload": ["beside"]})
        states = [wait_for_end(backend, run_id) for run_id in (less, inside, fresh, outside, python)]
    assert states == [RunState.SUCCESS, RunState.SUCCESS, RunState.SUCCESS, RunState.FAILED, RunState.SUCCESS]
    said = [[line for line in backend.log(run_id) if line in ("yes", "no")] for run_id in (less, inside, fresh)]
    assert said == [["yes", "yes", "no", "no", "yes"], ["yes"], ["yes"]]
    assert f"lets sealed runs write only {allowed}" in backend.message(outside)
    log = backend.log(python)
    assert "imported None" in log and any("Not preloaded" in line for line in log)
