"""Deaths at single points of a run's life at a work pool of Prefect 3: those at which this backend differs."""

from __future__ import annotations

import pytest

from tests.faults.driver import send
from tests.faults.evidence import Identity, facts
from tests.faults.invariants import Kills
from tests.faults.sides.prefect3 import Prefect3
from tests.faults.single import check_all, create, ended, flow_of, tend_until
from tests.faults.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SIDE = Prefect3
#: Around the claim, the request for a start, the lines and the end: where the server's answers decide what comes next.
_POINTS = (
    "after-claim",
    "after-start-request",
    "after-report-end",
    "fork-server-after-fork",
    "runner-before-exit-record",
)


@pytest.mark.parametrize("point", _POINTS)
def test_a_death_at_any_point_breaks_no_promise(kit: Stage, point: str) -> None:
    kit.arm(point)
    run_ids = [create(kit, child="forked"), create(kit, "code", command=True)]
    fired: list[tuple[str, Identity]] = []

    def over() -> bool:
        fired.extend(kit.fired())
        return bool(fired) and ended(kit, run_ids)

    tend_until(kit, over, f"a death at {point} and the ends of {run_ids}")
    assert [name for name, _ in fired] == [point]
    check_all(kit, run_ids, {}, fired)


def test_a_flow_that_is_killed_while_agent_and_server_are_dead_is_told_truly(kit: Stage) -> None:
    run_id = create(kit, "hang")
    flow = flow_of(kit, run_id)
    assert kit.server.kill() and kit.agents[0].kill()
    assert send(flow, 9)
    tend_until(kit, lambda: kit.side.answers() and ended(kit, [run_id]), "the run's end")
    assert "SIGKILL" in kit.side.run(run_id).message
    check_all(kit, [run_id], {run_id: Kills(flow=["SIGKILL"], server_away=True)}, [])


def test_a_runner_killed_while_the_agent_is_dead_leaves_nothing(kit: Stage) -> None:
    run_id = create(kit, "hang", child="forked")
    flow_of(kit, run_id)
    assert kit.agents[0].kill()
    assert send(facts(kit.facts, run_id).runners[0], 9)
    tend_until(kit, lambda: ended(kit, [run_id]), "the run's end")
    check_all(kit, [run_id], {run_id: Kills(runner=True)}, [])
