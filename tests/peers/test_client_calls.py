"""Each call of the real clients that users make, against the embedded server, unmodified."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.environments import PYTHONS, required_peer
from tests.peers.ground import Ground, on_ground

PROGRAM = Path(__file__).with_name("programs") / "client_calls.py"
#: The program's calls; those of "cloud" are made with the backend "cloud", as users of the retired Cloud make them.
CALLS = re.findall(r"^def ((?:call|cloud)_\w+)", PROGRAM.read_text(encoding="utf-8"), re.MULTILINE)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", params=PYTHONS)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str | None]]:
    """By call, what went wrong."""
    with on_ground(required_peer(request.param), tmp_path_factory.mktemp("ground")) as ground:
        ground.make_project()
        yield {**_told(ground), **_told(ground, **as_cloud(ground))}


def as_cloud(ground: Ground) -> dict[str, str]:
    """How a user of the retired Cloud is configured: only the address is another."""
    token = "PREFECT__CLOUD__API_KEY" if ground.peer.new else "PREFECT__CLOUD__AUTH_TOKEN"
    return {"PREFECT__BACKEND": "cloud", "PREFECT__CLOUD__API": ground.server.url, token: "of the old times"}


def _told(ground: Ground, **more: str) -> dict[str, str | None]:
    file = ground.place / "told.json"
    # What the old line gets from a server must not be looked for in the client's own context first.
    ground.python(str(PROGRAM), str(file), PREFECT__CLOUD__USE_LOCAL_SECRETS="false", timeout_s=200, **more)
    found: dict[str, str | None] = json.loads(file.read_text())
    return found


@pytest.mark.parametrize("call", CALLS)
def test_the_client_is_answered_as_it_expects(told: dict[str, str | None], call: str) -> None:
    if call not in told:
        pytest.skip("this line of Prefect does not have it")
    if told[call] is not None:
        pytest.fail(told[call], pytrace=False)
