"""docs/prefect.md: its commands are run as they stand, and its list of what is not served is exact."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from graphql import parse, validate

from flowherd_server.service import SCHEMA
from tests.peers.environments import NEW, OLD, PYTHONS, required_peer
from tests.peers.ground import Ground, flowherd_agent, on_ground
from tests.peers.source_operations import root_fields
from tests.support.dialect import Client
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "prefect.md").read_text(encoding="utf-8")
#: One document for each operation that the real clients, agents and flows were recorded to send.
RECORDED = Path(__file__).with_name("recorded_operations.graphql").read_text(encoding="utf-8")
FLOW = """
import prefect
from prefect import Flow, task

@task
def greet():
    secret = prefect.client.Secret("GREETING").get()
    prefect.context.logger.info("%s from %s", secret, prefect.__version__)

with Flow("hello") as flow:
    greet()
"""

#: What the page calls the environments.
PLACES = {OLD: "/opt/prefect-0.13", NEW: "/opt/prefect-1.4"}
ADDRESS = "http://127.0.0.1:4200"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def not_served() -> set[str]:
    """The operations of the page's list."""
    rows = PAGE.partition("## What of the API is not there")[2]
    first_cells = (row.split("|")[1] for row in rows.splitlines() if row.startswith("| `"))
    return {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}


def served() -> set[str]:
    assert SCHEMA.query_type and SCHEMA.mutation_type
    return {*SCHEMA.query_type.fields, *SCHEMA.mutation_type.fields}


@pytest.mark.parametrize("document", [text for text in RECORDED.split("\n\n") if text.strip()])
def test_each_recorded_operation_is_served_or_in_the_list(document: str) -> None:
    name = re.findall(r"\w+", document.partition("{")[2])[0]
    assert name in not_served() or validate(SCHEMA, parse(document)) == []


@pytest.mark.parametrize("version", PYTHONS)
def test_each_root_field_that_prefects_source_asks_for_is_served_or_in_the_list(version: str) -> None:
    (package,) = required_peer(version).directory.glob("lib/python*/site-packages/prefect")
    found = root_fields(package)
    assert len(found) > 30 and "" not in found, found
    missing = found.keys() - served() - not_served()
    assert not missing, {name: found[name] for name in missing}


def test_nothing_in_the_list_is_served() -> None:
    assert not_served()
    assert not_served() & served() == set()


def test_the_tests_that_the_page_names_are_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 10
    assert [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / file).read_text()] == []


def commands(version: str) -> list[str]:
    """The page's lines for a shell, without those that are for the other line of Prefect."""
    found = re.findall(r"(?:Prefect (\d)\.x:\s+)?```sh\n(.*?)```", PAGE, re.DOTALL)
    return [line for line_of, block in found if line_of in ("", version[0]) for line in block.splitlines()]


def runtimes(line: str) -> list[str]:
    """What follows each --runtime in a line, with our environments in the places of the page's."""
    words = shlex.split(line)
    rules = [after for word, after in pairwise(words) if word == "--runtime"]
    for version, place in PLACES.items():
        rules = [rule.replace(place, str(required_peer(version).directory)) for rule in rules]
    return rules


@contextmanager
def both_lines(place: Path) -> Iterator[dict[str, Ground]]:
    """One server and one agent, started as the page says, and by version the programs of each Prefect."""
    (start,) = [line for line in commands(NEW) if line.startswith("flowherd start ")]
    rules = runtimes(start)
    assert len(rules) == 2, start
    secret = ("-e", "PREFECT__CONTEXT__SECRETS__GREETING=greetings")
    with on_ground(required_peer(NEW), place) as ground, flowherd_agent(ground, *secret, runtimes=rules):
        yield {version: replace(ground, peer=required_peer(version)) for version in PYTHONS}


def follow(ground: Ground) -> str:
    """Do what the page has a user of this Prefect do; what the commands print."""
    lines = [line for line in commands(ground.peer.version) if not line.startswith("flowherd ")]
    assert len(lines) == 5, lines
    (ground.scratch / "flow.py").write_text(FLOW)
    environ = ground.environment()
    for name in ("PREFECT__BACKEND", "PREFECT__SERVER__ENDPOINT"):  # the page says how to set them
        del environ[name]
    text = "\n".join(lines).replace(ADDRESS, ground.server.url)
    assert ground.server.url in text
    done = subprocess.run(
        ["sh", "-ec", text],
        cwd=ground.scratch,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def newest_run(ground: Ground) -> dict[str, Any]:
    fields = "state labels flow { name core_version } logs { message }"
    (run,) = ground.client.ask(f"{{ flow_run(order_by: {{created: desc}}, limit: 1) {{ {fields} }} }}")["flow_run"]
    found: dict[str, Any] = run
    return found


def test_the_pages_steps_lead_from_nothing_to_runs_of_both_lines(tmp_path: Path) -> None:
    """One server, one agent, and the old line before the new, as when one moves from the one to the other."""
    with both_lines(tmp_path) as grounds:
        for version, ground in grounds.items():
            told = follow(ground)
            run = newest_run(ground)
            assert run["state"] == "Success" and run["flow"] == {"name": "hello", "core_version": version}, told
            assert run["labels"] == [socket.gethostname()]
            line = {"message": f"*** from {version}"}  # the secret was there, and is masked
            # The engine tells the state, the agent the log: which of them arrives first is open.
            wait_until(lambda: line in newest_run(ground)["logs"], what=lambda: f"{told}{newest_run(ground)}")  # noqa: B023 - waits here
        versions = grounds[NEW].client.ask("{ flow(order_by: {version: asc}) { version core_version archived } }")[
            "flow"
        ]
        assert [(row["core_version"], row["archived"]) for row in versions] == [(OLD, True), (NEW, False)]


STORAGES = {
    OLD: "from prefect.environments.storage import GitHub, S3",
    NEW: "from prefect.storage import GitHub, S3",
}
REGISTER = """
import json, sys, prefect
{imports}
client = prefect.Client()
def registered(storage):
    flow = prefect.Flow(type(storage).__name__, storage=storage)
    storage.add_flow(flow)
    return flow.register(project_name="peers", build=False, no_url=True)
print(json.dumps([registered(GitHub(repo="of/mine", path="flow.py")), registered(S3(bucket="mine", key="flow"))]))
"""


@pytest.mark.parametrize("version", PYTHONS)
def test_a_storages_label_must_be_given_to_the_agent(version: str, tmp_path: Path) -> None:
    """The old line's flows carry their storage's label; the new line's none, and an agent without any takes them."""
    labels = {OLD: ["github-flow-storage", "s3-flow-storage"], NEW: [None, None]}[version]
    with on_ground(required_peer(version), tmp_path) as ground:
        ground.make_project()
        printed = ground.python("-c", REGISTER.format(imports=STORAGES[version]))
        flows = re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", printed.strip().splitlines()[-1])
        client = Client(ground.server)
        for flow_id, label in zip(flows, labels, strict=True):
            run_id = client.create_run(flow_id)
            assert client.run(run_id, "labels")["labels"] == ([label] if label else [])
            host = socket.gethostname()
            assert run_id not in client.queue(host)
            assert run_id in (client.queue(host, label) if label else client.queue())
