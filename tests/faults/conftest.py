"""One stage for all tests of a module: its server and agent are started again after every death."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.stage import Stage, stage
from tests.support.leftovers import carriers
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def kit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Server, agent and network, of the module's SIDE; at the end they stop well and no process is left."""
    with stage(tmp_path_factory.mktemp("faults") / "stage", seed=0, side=request.module.SIDE) as built:
        yield built
        assert built.stop() == []
        wait_until(lambda: not carriers(built.mark), timeout_s=10, what=lambda: f"left: {carriers(built.mark)}")
        assert [program.surprises for program in (built.server, *built.agents)] == [[], []]
