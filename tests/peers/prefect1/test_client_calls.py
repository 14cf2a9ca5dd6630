"""Each call of the real clients that users make, unmodified, at the embedded server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.peers.environments import PREFECT_0_AND_1, required_installation
from tests.peers.prefect1.workspace import Workspace, running_workspace

PROGRAM = Path(__file__).with_name("programs") / "client_calls"
#: Calls named "cloud_" are made with the backend "cloud", as users of the retired Cloud make them.
CALLS = [
    name
    for file in sorted(PROGRAM.glob("*_calls.py"))
    for name in re.findall(r"^def ((?:call|cloud)_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", params=PREFECT_0_AND_1)
def failures(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str | None]]:
    """By call, what went wrong, or None."""
    with running_workspace(required_installation(request.param), tmp_path_factory.mktemp("calls")) as workspace:
        workspace.make_project()
        yield {**_call_all(workspace, {}), **_call_all(workspace, as_cloud(workspace))}


def as_cloud(workspace: Workspace) -> dict[str, str]:
    """Return the configuration of a user of the retired Cloud: only the address is another."""
    token = "PREFECT__CLOUD__API_KEY" if workspace.installation.is_prefect_1 else "PREFECT__CLOUD__AUTH_TOKEN"
    return {"PREFECT__BACKEND": "cloud", "PREFECT__CLOUD__API": workspace.server.url, token: "of the old times"}


def _call_all(workspace: Workspace, more: Mapping[str, str]) -> dict[str, str | None]:
    file = workspace.directory / "failures.json"
    # The client of 0.x must ask the server for a secret, and not look in its own context first.
    workspace.python(
        str(PROGRAM), str(file), more={"PREFECT__CLOUD__USE_LOCAL_SECRETS": "false", **more}, timeout_s=200
    )
    found: dict[str, str | None] = json.loads(file.read_text())
    return found


@pytest.mark.parametrize("call", CALLS)
def test_the_client_is_answered_as_it_expects(failures: dict[str, str | None], call: str) -> None:
    if call not in failures:
        pytest.skip("this version of Prefect does not have it")
    failure = failures[call]
    if failure is not None:
        pytest.fail(failure, pytrace=False)
