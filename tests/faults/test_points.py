"""One death at each point of a run's life, one at a time: whatever dies, all promises are kept.

At a work pool of Prefect 3 only the points at which that backend differs are tried.
"""

from __future__ import annotations

import signal
import time

import pytest

from tests.faults import plan, proxy
from tests.faults.cluster import Cluster
from tests.faults.driver import send
from tests.faults.evidence import Identity, facts
from tests.faults.invariants import RunFaults
from tests.faults.single_fault import check_all, create, ended, flow_of, tend_until
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EMBEDDED, PREFECT_3 = "embedded", "prefect3"
#: Around the claim, the start and the end, where the server's answers decide what comes next.
_PREFECT_3_POINTS = ("after-claim", "fork-server-after-fork", "runner-before-exit-record")
_MORE_PREFECT_3_POINTS = ("after-start-request", "after-report-end")


def clusters(*backends: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("cluster", backends, indirect=True, scope="module")


@pytest.mark.parametrize(
    ("cluster", "point"),
    [
        *((EMBEDDED, point) for point in plan.POINTS),
        *((PREFECT_3, point) for point in _PREFECT_3_POINTS),
        *(pytest.param(PREFECT_3, point, marks=pytest.mark.full) for point in _MORE_PREFECT_3_POINTS),
    ],
    indirect=["cluster"],
    scope="module",
)
def test_a_death_at_any_point_breaks_no_promise(cluster: Cluster, point: str) -> None:
    cluster.arm(point)
    run_ids = [create(cluster, child="forked"), create(cluster, "code", command=True)]
    if cluster.backend.rules.agent_ends_runs:
        run_ids.append(create(cluster, "raise", child="program"))
    fired: list[tuple[str, Identity]] = []

    def over() -> bool:
        fired.extend(cluster.fired())
        return bool(fired) and ended(cluster, run_ids)

    tend_until(cluster, over, f"a death at {point} and the ends of {run_ids}")
    assert [name for name, _ in fired] == [point]
    check_all(cluster, run_ids, {}, fired)


@pytest.mark.parametrize("kind", proxy.KINDS)
@clusters(EMBEDDED)
def test_a_network_that_fails_in_one_way_breaks_no_promise(cluster: Cluster, kind: str) -> None:
    before = cluster.proxy.injected[kind]
    cluster.proxy.inject(True, only=kind)
    run_ids = [create(cluster, seconds=1.0), create(cluster, "code"), create(cluster, "raise")]
    latest_s = time.monotonic() + 8

    def over() -> bool:
        if cluster.proxy.injected[kind] - before >= 12 or time.monotonic() > latest_s:
            cluster.proxy.inject(False)
        return ended(cluster, run_ids)

    tend_until(cluster, over, f"the ends of {run_ids}")
    cluster.proxy.inject(False)
    assert cluster.proxy.injected[kind] > before
    check_all(cluster, run_ids, {}, [])


@pytest.mark.parametrize(
    ("cluster", "child"),
    [(EMBEDDED, "forked"), (EMBEDDED, "program"), (PREFECT_3, "forked")],
    indirect=["cluster"],
    scope="module",
)
def test_a_runner_killed_while_the_agent_is_dead_leaves_nothing(cluster: Cluster, child: str) -> None:
    """Its children are in a session of their own; the next agent knows them by the run's mark."""
    run_id = create(cluster, "hang", child=child)
    flow_of(cluster, run_id)
    wait_until(lambda: facts(cluster.facts, run_id).children)
    assert cluster.agents[0].kill(away_s=0.5)
    assert send(facts(cluster.facts, run_id).runners[0], signal.SIGKILL)
    tend_until(cluster, lambda: ended(cluster, [run_id]), "the run's end")
    if cluster.backend.rules.agent_ends_runs:
        assert cluster.backend.run(run_id).reason == "lost"
    check_all(cluster, [run_id], {run_id: RunFaults(runner_killed=True)}, [])


@clusters(EMBEDDED, PREFECT_3)
def test_flows_that_end_while_agent_and_server_are_dead_are_reported_truly(cluster: Cluster) -> None:
    run_ids = [create(cluster, "hang")]
    if cluster.backend.rules.agent_ends_runs:  # an engine of Prefect 3 could not report its end
        run_ids.append(create(cluster, "code", seconds=2.0))
    flow = flow_of(cluster, run_ids[0])
    assert cluster.server.kill(away_s=1.0) and cluster.agents[0].kill(away_s=0.5)
    assert send(flow, signal.SIGKILL)
    tend_until(cluster, lambda: cluster.backend.answers() and ended(cluster, run_ids), "the ends")
    assert "SIGKILL" in cluster.backend.run(run_ids[0]).message
    check_all(cluster, run_ids, {run_ids[0]: RunFaults(flow_signals=["SIGKILL"], server_away=True)}, [])


@clusters(EMBEDDED)
def test_everything_killed_at_once_is_reported_truly(cluster: Cluster) -> None:
    run_ids = [create(cluster, "hang", child="forked") for _ in range(3)]
    for run_id in run_ids:
        flow_of(cluster, run_id)
    found = [facts(cluster.facts, run_id) for run_id in run_ids]
    assert (
        cluster.server.kill()
        and all(send(one, signal.SIGKILL) for one in cluster.fork_servers())
        and cluster.agents[0].kill()
    )
    for one in found:
        assert send(one.runners[0], signal.SIGKILL)
    tend_until(cluster, lambda: ended(cluster, run_ids), "the ends")
    assert {cluster.backend.run(run_id).reason for run_id in run_ids} == {"lost"}
    check_all(cluster, run_ids, {run_id: RunFaults(runner_killed=True) for run_id in run_ids}, [])
