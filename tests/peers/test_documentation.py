"""docs/prefect.md: its commands are run as they stand, and its list of what is not served is exact."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from graphql import parse, validate

from flowherd.server.service import SCHEMA
from tests.peers.environments import NEW, OLD, PYTHONS, required_peer
from tests.peers.ground import flowherd_agent, on_ground

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "prefect.md").read_text(encoding="utf-8")
#: One document for each operation that the real clients, agents and flows were recorded to send.
RECORDED = Path(__file__).with_name("recorded_operations.graphql").read_text(encoding="utf-8")
#: How Prefect's source writes the name of an operation.
_NAMED = (
    r"\"(\w+)\(input: \$input\)\"",
    r"\{\s*(\w+)\(input: \$input\)",
    r"with_args\(\s*\"(\w+)\"",
    r"\"query\": *\{\s*\"(\w+)\"",
    r"\"mutation\": *\{\s*\"(\w+)\"",
)
FLOW = """
from prefect import Flow, task

@task
def greet():
    print("hello")

with Flow("hello") as flow:
    greet()
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def not_served() -> set[str]:
    """The operations of the page's list."""
    rows = PAGE.partition("## What of the API is not there")[2]
    first_cells = (row.split("|")[1] for row in rows.splitlines() if row.startswith("| `"))
    return {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}


def served() -> set[str]:
    assert SCHEMA.query_type and SCHEMA.mutation_type
    nested = {name for kind in SCHEMA.type_map.values() for name in getattr(kind, "fields", {})}
    return {*SCHEMA.query_type.fields, *SCHEMA.mutation_type.fields, *nested}


@pytest.mark.parametrize("document", [text for text in RECORDED.split("\n\n") if text.strip()])
def test_each_recorded_operation_is_served_or_in_the_list(document: str) -> None:
    name = re.findall(r"\w+", document.partition("{")[2])[0]
    assert name in not_served() or validate(SCHEMA, parse(document)) == []


@pytest.mark.parametrize("version", PYTHONS)
def test_each_operation_that_prefects_source_names_is_served_or_in_the_list(version: str) -> None:
    (package,) = required_peer(version).directory.glob("lib/python*/site-packages/prefect")
    text = "\n".join(file.read_text(encoding="utf-8") for file in package.rglob("*.py"))
    named = {name for pattern in _NAMED for name in re.findall(pattern, text)}
    assert len(named) > 25
    assert named - served() <= not_served()


def test_nothing_in_the_list_is_served() -> None:
    assert not_served()
    assert not_served() & served() == set()


@pytest.mark.parametrize("version", PYTHONS)
def test_the_pages_steps_lead_from_nothing_to_a_run(version: str, tmp_path: Path) -> None:
    """The commands of Prefect are the page's own; server and agent are those of this test."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    other = {OLD: ("register --project", "prefect run --"), NEW: ("register flow", "run flow")}[version]
    mine = [line for line in lines if line.startswith("prefect ") and not any(word in line for word in other)]
    mine = list(dict.fromkeys(mine))
    assert len(mine) == 4, mine
    with on_ground(required_peer(version), tmp_path) as ground, flowherd_agent(ground):
        (ground.scratch / "flow.py").write_text(FLOW)
        environ = {name: value for name, value in ground.environment().items() if name != "PREFECT__BACKEND"}
        done = subprocess.run(
            ["sh", "-ec", "\n".join(mine)],
            cwd=ground.scratch,
            env=environ,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        told = done.stdout + done.stderr
        assert done.returncode == 0, told
        (run,) = ground.client.ask("{ flow_run { state flow { name } } }")["flow_run"]
        assert run == {"state": "Success", "flow": {"name": "hello"}}, told
