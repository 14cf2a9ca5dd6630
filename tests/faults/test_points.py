"""One death at each point of a run's life, one at a time: whatever dies there, all that was promised is true."""

from __future__ import annotations

import time

import pytest

from tests.faults import plan, proxy
from tests.faults.driver import send
from tests.faults.evidence import Identity, facts
from tests.faults.invariants import Kills
from tests.faults.sides.embedded import Embedded
from tests.faults.single import check_all, create, ended, flow_of, tend_until
from tests.faults.stage import Stage
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

SIDE = Embedded


@pytest.mark.parametrize("point", plan.POINTS)
def test_a_death_at_any_point_breaks_no_promise(kit: Stage, point: str) -> None:
    kit.arm(point)
    run_ids = [create(kit, child="forked"), create(kit, "code", command=True), create(kit, "raise", child="program")]
    fired: list[tuple[str, Identity]] = []

    def over() -> bool:
        fired.extend(kit.fired())
        return bool(fired) and ended(kit, run_ids)

    tend_until(kit, over, f"a death at {point} and the ends of {run_ids}")
    assert [name for name, _ in fired] == [point]
    check_all(kit, run_ids, {}, fired)


@pytest.mark.parametrize("kind", proxy.KINDS)
def test_a_network_that_fails_in_one_way_breaks_no_promise(kit: Stage, kind: str) -> None:
    before = kit.proxy.injected[kind]
    kit.proxy.storm(True, only=kind)
    run_ids = [create(kit, seconds=1.0), create(kit, "code"), create(kit, "raise")]
    calm_s = time.monotonic() + 8

    def over() -> bool:
        if kit.proxy.injected[kind] - before >= 12 or time.monotonic() > calm_s:
            kit.proxy.storm(False)
        return ended(kit, run_ids)

    tend_until(kit, over, f"the ends of {run_ids}")
    kit.proxy.storm(False)
    assert kit.proxy.injected[kind] > before
    check_all(kit, run_ids, {}, [])


@pytest.mark.parametrize("child", ["forked", "program"])
def test_a_runner_killed_while_the_agent_is_dead_leaves_nothing(kit: Stage, child: str) -> None:
    """Its children are in a session of their own; the next agent knows them by the run's mark."""
    run_id = create(kit, "hang", child=child)
    flow_of(kit, run_id)
    wait_until(lambda: facts(kit.facts, run_id).children)
    assert kit.agents[0].kill(away_s=0.5)
    assert send(facts(kit.facts, run_id).runners[0], 9)
    tend_until(kit, lambda: ended(kit, [run_id]), "the run's end")
    assert kit.side.run(run_id).reason == "lost"
    check_all(kit, [run_id], {run_id: Kills(runner=True)}, [])


def test_a_flow_that_ends_while_agent_and_server_are_dead_is_told_truly(kit: Stage) -> None:
    run_ids = [create(kit, "hang"), create(kit, "code", seconds=2.0)]
    flow = flow_of(kit, run_ids[0])
    assert kit.server.kill(away_s=1.0) and kit.agents[0].kill(away_s=0.5)
    assert send(flow, 9)
    tend_until(kit, lambda: ended(kit, run_ids), "the ends")
    check_all(kit, run_ids, {run_ids[0]: Kills(flow=["SIGKILL"])}, [])


def test_everything_killed_at_once_is_told_truly(kit: Stage) -> None:
    run_ids = [create(kit, "hang", child="forked") for _ in range(3)]
    for run_id in run_ids:
        flow_of(kit, run_id)
    found = [facts(kit.facts, run_id) for run_id in run_ids]
    assert kit.server.kill() and all(send(one, 9) for one in kit.fork_servers()) and kit.agents[0].kill()
    for one in found:
        assert send(one.runners[0], 9)
    tend_until(kit, lambda: ended(kit, run_ids), "the ends")
    assert {kit.side.run(run_id).reason for run_id in run_ids} == {"lost"}
    check_all(kit, run_ids, {run_id: Kills(runner=True) for run_id in run_ids}, [])
