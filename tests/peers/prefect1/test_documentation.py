"""docs/prefect.md: its commands work as they stand, and its list of what is not served is exact."""

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
from tests.peers.environments import PREFECT_0, PREFECT_0_AND_1, PREFECT_1, required_installation
from tests.peers.prefect1.source_operations import root_fields
from tests.peers.prefect1.workspace import Workspace, flowherd_agent, running_workspace
from tests.support.dialect import Client
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "prefect.md").read_text(encoding="utf-8")
#: One document for each operation that the real clients, agents and flows have been recorded to send.
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

#: The directories of the installations on the page.
DIRECTORIES = {PREFECT_0: "/opt/prefect-0.13", PREFECT_1: "/opt/prefect-1.4"}
ADDRESS = "http://127.0.0.1:4200"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def not_served() -> set[str]:
    """Return the operations in the page's list."""
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


@pytest.mark.parametrize("version", PREFECT_0_AND_1)
def test_each_root_field_that_prefects_source_asks_for_is_served_or_in_the_list(version: str) -> None:
    (package,) = required_installation(version).directory.glob("lib/python*/site-packages/prefect")
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
    """Return the page's lines for a shell, without those for the other Prefect."""
    found = re.findall(r"(?:Prefect (\d)\.x:\s+)?```sh\n(.*?)```", PAGE, re.DOTALL)
    return [line for number, block in found if number in ("", version[0]) for line in block.splitlines()]


def runtimes(line: str) -> list[str]:
    """Return what follows each --runtime in a line, with our installations instead of the page's."""
    words = shlex.split(line)
    rules = [after for word, after in pairwise(words) if word == "--runtime"]
    for version, directory in DIRECTORIES.items():
        rules = [rule.replace(directory, str(required_installation(version).directory)) for rule in rules]
    return rules


@contextmanager
def both_versions(directory: Path) -> Iterator[dict[str, Workspace]]:
    """Start one server and one agent, as the page says; yield the programs of each Prefect by version."""
    (start,) = [line for line in commands(PREFECT_1) if line.startswith("flowherd start ")]
    rules = runtimes(start)
    assert len(rules) == 2, start
    secret = ("-e", "PREFECT__CONTEXT__SECRETS__GREETING=greetings")
    with (
        running_workspace(required_installation(PREFECT_1), directory) as workspace,
        flowherd_agent(workspace, *secret, runtimes=rules),
    ):
        yield {version: replace(workspace, installation=required_installation(version)) for version in PREFECT_0_AND_1}


def follow(workspace: Workspace) -> str:
    """Do what the page tells a user of this Prefect; return what the commands print."""
    lines = [line for line in commands(workspace.installation.version) if not line.startswith("flowherd ")]
    assert len(lines) == 5, lines
    (workspace.scratch / "flow.py").write_text(FLOW)
    environ = workspace.environment()
    for name in ("PREFECT__BACKEND", "PREFECT__SERVER__ENDPOINT"):  # the page says how to set them
        del environ[name]
    text = "\n".join(lines).replace(ADDRESS, workspace.server.url)
    assert workspace.server.url in text
    done = subprocess.run(
        ["sh", "-ec", text],
        cwd=workspace.scratch,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def newest_run(workspace: Workspace) -> dict[str, Any]:
    fields = "state labels flow { name core_version } logs { message }"
    (run,) = workspace.client.ask(f"{{ flow_run(order_by: {{created: desc}}, limit: 1) {{ {fields} }} }}")["flow_run"]
    found: dict[str, Any] = run
    return found


def test_the_pages_steps_lead_from_nothing_to_runs_of_both_versions(tmp_path: Path) -> None:
    """With one server and one agent, 0.x before 1.x, as when a user moves to the later one."""
    with both_versions(tmp_path) as workspaces:
        for version, workspace in workspaces.items():
            printed = follow(workspace)
            run = newest_run(workspace)
            assert run["state"] == "Success" and run["flow"] == {"name": "hello", "core_version": version}, printed
            assert run["labels"] == [socket.gethostname()]
            line = {"message": f"*** from {version}"}  # the secret was known, and is masked
            # The engine reports the state and the agent the log; either can arrive first.
            wait_until(lambda: line in newest_run(workspace)["logs"], what=lambda: f"{printed}{newest_run(workspace)}")  # noqa: B023 - waits here
        versions = workspaces[PREFECT_1].client.ask(
            "{ flow(order_by: {version: asc}) { version core_version archived } }"
        )["flow"]
        assert [(row["core_version"], row["archived"]) for row in versions] == [(PREFECT_0, True), (PREFECT_1, False)]


STORAGES = {
    PREFECT_0: "from prefect.environments.storage import GitHub, S3",
    PREFECT_1: "from prefect.storage import GitHub, S3",
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


@pytest.mark.parametrize("version", PREFECT_0_AND_1)
def test_a_storages_label_must_be_given_to_the_agent(version: str, tmp_path: Path) -> None:
    """Flows of 0.x carry their storage's label; those of 1.x carry none, and an agent without any takes them."""
    labels = ["github-flow-storage", "s3-flow-storage"] if version == PREFECT_0 else [None, None]
    with running_workspace(required_installation(version), tmp_path) as workspace:
        workspace.make_project()
        printed = workspace.python("-c", REGISTER.format(imports=STORAGES[version]))
        flows = re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", printed.strip().splitlines()[-1])
        client = Client(workspace.server)
        for flow_id, label in zip(flows, labels, strict=True):
            run_id = client.create_run(flow_id)
            assert client.run(run_id, "labels")["labels"] == ([label] if label else [])
            host = socket.gethostname()
            assert run_id not in client.queue(host)
            assert run_id in (client.queue(host, label) if label else client.queue())
