"""Kinds of run: those that come with flowherd, and one of another package, of which only the file's path is known."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.runner import ForkServer, Run

OWN_KIND = """
import time
from flowherd_runner.in_fork import enter, run_and_exit
from flowherd_runner.kinds.definition import Kind, NotStarted
from flowherd_runner.stopping import INTERRUPT

def run(flow):
    if "word" not in flow.spec.target:
        raise NotStarted("the target has no word")
    enter(flow, ["own"])
    run_and_exit(flow, lambda: body(flow))

def body(flow):
    print(flow.spec.target["word"], flow.spec.parameters, flow.working_dir == flow.environment["PWD_OF_TEST"])
    if flow.spec.parameters.get("wait"):
        time.sleep(100)

KINDS = {"own": Kind(run, in_fork=True, stop=INTERRUPT)}
"""


@pytest.fixture
def kind_file(tmp_path: Path) -> Path:
    """The file of a kind, in a directory that is on no path."""
    file = tmp_path / "elsewhere" / "own kind.py"
    file.parent.mkdir()
    file.write_text(OWN_KIND)
    return file


def start(fork_server: ForkServer, kind: str, target: dict[str, Any], file: Path | None, **spec: Any) -> Run:
    given = {"kind_file": str(file)} if file is not None else {}
    place = str(fork_server.runs_directory)
    env = {"PWD_OF_TEST": place}
    return fork_server.start(fork_server.prepare(kind, target, working_dir=place, env=env, **given, **spec))


def test_a_kind_from_a_file_runs_under_every_interpreter(any_fork_server: ForkServer, kind_file: Path) -> None:
    run = start(any_fork_server, "own", {"word": "hello"}, kind_file, parameters={"x": 1})
    record = run.wait()
    assert (record["reason"], record["exit_code"]) == ("exited", 0), run.describe()
    assert run.lines() == ["hello {'x': 1} True"]


def test_its_own_signal_asks_it_to_end(fork_server: ForkServer, kind_file: Path) -> None:
    run = start(fork_server, "own", {"word": "hello"}, kind_file, parameters={"wait": True})
    run.wait_for_line("hello {'wait': True} True")
    run.stop()
    record = run.wait()
    assert (record["reason"], record["signal"]) == ("cancelled", signal.SIGINT)


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("own", None, "own kind.py"),
        ("own", "import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("own", "raise SystemExit('enough')", "cannot be loaded: SystemExit: enough"),
        ("own", "x = 1", "defines no kind 'own', only none"),
        ("other", OWN_KIND, "defines no kind 'other', only own"),
        ("own", OWN_KIND, "the target has no word"),
    ],
)
def test_what_keeps_it_from_its_start_is_the_evidence(
    fork_server: ForkServer, kind_file: Path, kind: str, code: str | None, words: str
) -> None:
    if code is None:
        kind_file.unlink()
    else:
        kind_file.write_text(code)
    run = start(fork_server, kind, {}, kind_file)
    record = run.wait()
    assert record["reason"] == "not_started"
    assert words in record["evidence"]


def test_an_unknown_kind_is_named_with_those_that_are_known(fork_server: ForkServer) -> None:
    record = start(fork_server, "own", {}, None).wait()
    assert record["reason"] == "not_started"
    assert record["evidence"] == (
        "runs of the kind 'own' are not known here, only command, prefect, prefect3, prefect3-command, "
        "prefect3-hooks, python"
    )


def test_a_fork_server_imports_only_the_kinds_that_it_was_asked_for(fork_server: ForkServer) -> None:
    code = """
import sys
def main():
    print(sorted(name for name in sys.modules if name.startswith("flowherd_runner.kinds.")))
"""
    run = fork_server.python(code)
    run.wait()
    assert run.lines() == [
        "['flowherd_runner.kinds.command', 'flowherd_runner.kinds.definition', 'flowherd_runner.kinds.python']"
    ]
