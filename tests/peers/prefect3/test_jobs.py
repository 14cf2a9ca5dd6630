"""Job variables become the same job as with Prefect's own process worker, with blocks and variables."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowherd.backends.prefect3.blocks_and_variables import BlocksAndVariables
from flowherd.backends.prefect3.job_variables import PROCESS_TEMPLATE, job_configuration
from flowherd.backends.prefect3.transport import Prefect3Transport
from tests.peers.environments import PREFECT_3, required_installation
from tests.peers.prefect3.prefect_server import PrefectServer

pytestmark = pytest.mark.timeout(300)

PROGRAM = Path(__file__).parent / "programs" / "resolve_jobs.py"
SECRET = "{{ prefect.blocks.secret.api-key }}"
DOCUMENT = "prefect.blocks.secret.settings"
VARIABLE = "{{ prefect.variables.site }}"


def template(**configuration: Any) -> dict[str, Any]:
    return {**PROCESS_TEMPLATE, "job_configuration": {**PROCESS_TEMPLATE["job_configuration"], **configuration}}


def with_default(name: str, default: Any, **configuration: Any) -> dict[str, Any]:
    variables = PROCESS_TEMPLATE["variables"]
    properties = {**variables["properties"], name: {"default": default}}
    return {**template(**configuration), "variables": {**variables, "properties": properties}}


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (template(), {}),
    (template(), {"command": "python x.py", "stream_output": False, "working_dir": "/srv/./dir"}),
    (template(), {"command": "", "working_dir": "relative/dir"}),
    (template(), {"command": None, "env": {"A": "1", "GONE": None}}),
    (template(), {"env": {"A": 1, "B": 2.5, "C": True}}),
    (template(), {"env.A": "dotted", "env.B": "dotted", "env": {"B": "nested"}}),
    (template(), {"env.A.B": 1}),
    (template(), {"unknown": 5}),
    (template(env={"A": "1", "B": "{{ name }}"}), {"name": "n", "env": {"C": "2"}}),
    (template(env={"A": "{{ unknown }}", "B": "x{{ unknown }}y"}), {}),
    (template(env={"A": "1"}), {"env": None}),
    (with_default("env", {"D": "default", "E": "default"}), {"env": {"E": "given"}}),
    (with_default("env", {"D": "default"}), {}),
    (with_default("env", {"D": "default"}, env={"D": "template", "T": "t"}), {"env": {"X": "1"}}),
    (with_default("command", "default command"), {}),
    (with_default("command", "default command"), {"command": "given"}),
    (template(command="run {{ name }} {{ labels.a }}"), {"name": "n", "labels": {"a": "b"}}),
    (template(command="{{ things.list[1] }}"), {"things": {"list": ["a", "b"]}}),
    (template(working_dir="/base/{{name}}"), {"name": "n"}),
    (template(env={"HOME_THERE": "{{ $FLOWHERD_CASE }}", "NOT": "{{ $FLOWHERD_NONE }}"}), {}),
    (template(), {"env": {"A": SECRET, "B": f"key={SECRET}", "C": VARIABLE, "D": f"{VARIABLE}/{SECRET}"}}),
    (template(env={"A": SECRET}), {"env": {"B": VARIABLE}}),
    (template(command=VARIABLE), {}),
    (template(), {"env": {"A": f"{{{{ {DOCUMENT}.value.a.b }}}}", "B": f"{{{{ {DOCUMENT}.value.list[1] }}}}"}}),
    (template(env=f"{{{{ {DOCUMENT}.value.env }}}}"), {}),
    (template(), {"env": {"A": "{{ prefect.variables.not_there }}"}}),
    (template(), {"env": {"A": "{{ prefect.variables.numbers }}", "B": "n={{ prefect.variables.numbers }}"}}),
    (template(), {"env": {"A": "{{ prefect.blocks.secret.not-there }}"}}),
    (template(), {"env": {"A": f"{{{{ {DOCUMENT}.value.nowhere }}}}"}}),
    (template(), {"env": {"A": f"in text: {{{{ {DOCUMENT}.value.list }}}}"}}),
    (template(), {"env": {"A": "{{ prefect.blocks.secret }}"}}),
    (template(), {"stream_output": "no idea"}),
    (template(), {"env": ["A"]}),
]


@pytest.fixture(scope="module")
def theirs(prefect: PrefectServer) -> Iterator[list[Any]]:
    """The process worker's job for each case; None where it refuses."""
    for name, value in (("site", "north"), ("numbers", [1, 2])):
        prefect.ask("POST", "/variables/", {"name": name, "value": value})
    add_block(prefect, "secret", "api-key", {"value": "s3cret"})
    add_block(prefect, "secret", "settings", {"value": {"a": {"b": 5}, "list": [1, 2], "env": {"FROM": "block"}}})
    done = subprocess.run(
        [required_installation(PREFECT_3).python, PROGRAM],
        input=json.dumps([{"template": case[0], "variables": case[1]} for case in CASES]),
        env={**prefect.environ(), "PREFECT_API_URL": prefect.api, "FLOWHERD_CASE": "here"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    yield json.loads(done.stdout.splitlines()[-1])


def add_block(prefect: PrefectServer, block_type: str, name: str, data: dict[str, Any]) -> None:
    type_id = prefect.ask("GET", f"/block_types/slug/{block_type}")["id"]
    asked = {"block_schemas": {"block_type_id": {"any_": [type_id]}}}
    schema = prefect.ask("POST", "/block_schemas/filter", asked)[0]
    body = {"name": name, "data": data, "block_schema_id": schema["id"], "block_type_id": type_id}
    prefect.ask("POST", "/block_documents/", body)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_job_is_that_of_prefects_own_worker(prefect: PrefectServer, theirs: list[Any], number: int) -> None:
    pool_template, variables = CASES[number]
    transport = Prefect3Transport(prefect.api, timeout_s=20)
    try:
        look_up = BlocksAndVariables(transport).by_prefix()
        made = job_configuration(pool_template, variables, {"FLOWHERD_CASE": "here"}, look_up)
        ours = dataclasses.asdict(made)
        del ours["secret_env"]  # flowherd's own: which values came from blocks
    except (ValueError, TypeError, KeyError):
        ours = None
    transport.close()
    if theirs[number] is not None and ours is not None and ours["working_dir"] is not None:
        ours["working_dir"] = str(Path(ours["working_dir"]))
    assert ours == theirs[number]
