"""The diagrams in docs/design.md show the tables of states and phases as they are in the code."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from flowherd import states
from flowherd.host import run_phase

ROOT = Path(__file__).resolve().parents[2]
DESIGN = ROOT / "docs" / "design.md"
SCRIPT = ROOT / "docs" / "draw_states.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def changes_shown(diagram: str) -> set[tuple[str, str, str]]:
    """All (state, event, next state) that the arrows mean, with each group replaced by the states listed in it."""
    names = {node: name for name, node in re.findall(r'state "(.+)" as (\w+)', diagram)}
    members: dict[str, str] = {}
    for node, text in re.findall(r"^ +(\w+): (?!any )(.+)$", diagram, re.MULTILINE):
        members[node] = f"{members.get(node, '')} {text}"
    return {
        (state, event, names.get(target, target))
        for source, target, events in re.findall(r"(\w+) --> (\w+): (.+)", diagram)
        for state in re.findall(r"\w+", members.get(source, "")) or [names.get(source, source)]
        for event in events.split(" / ")
    }


def between_markers(name: str) -> str:
    return DESIGN.read_text().split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0]


def test_the_drawings_are_current(script: dict[str, Any]) -> None:
    document = DESIGN.read_text()
    assert script["drawn"](document) == document, "run: python docs/draw_states.py"


@pytest.mark.parametrize(
    ("name", "table"),
    [("run states", states.TRANSITIONS), ("run phases", run_phase.TRANSITIONS)],
    ids=["states", "phases"],
)
def test_the_arrows_mean_exactly_the_changes_in_the_table(name: str, table: Mapping[tuple[Enum, Enum], Enum]) -> None:
    expected = {(state.value, event.value, target.value) for (state, event), target in table.items()}
    assert changes_shown(between_markers(name)) == expected


def test_events_between_the_same_two_states_share_an_arrow(script: dict[str, Any]) -> None:
    table = {
        (states.RunState.RUNNING, states.Event.FAIL): states.RunState.FAILED,
        (states.RunState.RUNNING, states.Event.CANCEL): states.RunState.FAILED,
    }
    assert "    Running --> Failed: cancel / fail\n" in script["drawing"](table, {})


def test_a_document_without_a_marker_is_refused(script: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        script["drawn"]("<!-- run states: begin -->\n<!-- run states: end -->\n")


@pytest.mark.slow
def test_the_check_fails_when_a_drawing_is_not_current(tmp_path: Path) -> None:
    copy = tmp_path / "draw_states.py"
    copy.write_text(SCRIPT.read_text())
    (tmp_path / "design.md").write_text(DESIGN.read_text().replace("running --> stopping: stop\n", ""))

    def check() -> int:
        return subprocess.run([sys.executable, str(copy), "--check"], capture_output=True, check=False).returncode

    assert check() == 1
    subprocess.run([sys.executable, str(copy)], check=True)
    assert check() == 0
    assert (tmp_path / "design.md").read_text() == DESIGN.read_text()
