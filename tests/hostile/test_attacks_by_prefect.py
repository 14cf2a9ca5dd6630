"""What a flow of Prefect 1.x can do to what is not its own: as much as any other. Only with --full.

Without a network it could not reach its server.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.hostile.attack_scene import Scene, scene
from tests.hostile.attack_stage import ORDINARY, ROOT, USER
from tests.hostile.attack_table import COLUMNS, ROWS
from tests.peers.environments import PREFECT_1, Installation, required_installation
from tests.support.leftovers import none_left
from tests.support.unprivileged import needs_compiler, needs_root, needs_setpriv

pytestmark = [needs_root, needs_setpriv, needs_compiler, pytest.mark.timeout(300), pytest.mark.full]

_LETTERS = {ROOT: "R", USER: "U", ORDINARY: "O"}


@pytest.fixture(scope="module")
def prefect() -> Installation:
    return required_installation(PREFECT_1)


@pytest.fixture(scope="module", params=[ROOT, USER, ORDINARY], ids=lambda who: str(who.name))
def attacked(request: pytest.FixtureRequest, prefect: Installation) -> Iterator[Scene]:
    with none_left(), scene(request.param, prefect) as found:
        yield found


@pytest.mark.parametrize("column", ["private", "sealed"])
def test_a_flow_of_prefect_achieves_no_more_than_the_page_says(
    attacked: Scene, prefect: Installation, column: str
) -> None:
    who = attacked.stage.who
    program = attacked.stage.place / "programs" / "prefect_flow.py"
    command = [str(prefect.python), str(program), socket.gethostname(), str(attacked.work), who.user or ""]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    document = json.loads(printed.splitlines()[-1])
    verdicts = attacked.attack(COLUMNS[column], in_fork=False, prefect=document)
    allowed = {name for name, row in ROWS.items() if _LETTERS[who] in row.by_column()[column]}
    gained = {name: verdict.detail for name, verdict in verdicts.items() if verdict.succeeded}
    assert {name: detail for name, detail in gained.items() if name not in allowed} == {}
    assert set(verdicts) == set(ROWS)
